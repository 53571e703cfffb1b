"""An engine in a thread of this process.

Torch lets go of the interpreter's lock in its kernels, the scheduler does not.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from collections.abc import Sequence as Many
from queue import SimpleQueue
from threading import Thread
from typing import Final

from llmcore.errors import EngineStopped, LlmError
from llmcore.hosts.build import Build, build_service
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Loaded, OnMessage, OnProgress
from llmcore.messages import Broken, FromEngine, Stop, ToEngine
from llmcore.service import serve

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long the engine's Python may keep the event loop from its turn (`sys.setswitchinterval`), while it lives here."""


class ThreadHost:
    """Implements `hosts.host.Host`."""

    def __init__(self, config: HostConfig, *, build: Build = build_service) -> None:
        """`build` runs in the thread."""
        self.on_message: OnMessage = lambda _: None
        self.on_progress: OnProgress = lambda _, __: None
        self._config = config
        self._build = build
        self._run: _Run | None = None

    @property
    def is_alive(self) -> bool:
        return self._run is not None and self._run.is_serving

    async def start(self) -> Loaded:
        await self.stop()
        self._run = _Run(self, self._config, self._build)
        try:
            return await self._run.loaded
        except asyncio.CancelledError:
            await self.stop()
            raise

    def send(self, message: ToEngine) -> None:
        if self._run is None or not self._run.is_serving:
            raise EngineStopped("the model is not running")
        self._run.inbox.put(message)

    async def stop(self) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            await run.stop()


class _Run:
    """One life of the thread. What is called in the event loop begins with `_on`."""

    def __init__(self, host: ThreadHost, config: HostConfig, build: Build) -> None:
        self._host = host
        self._config = config
        self._build = build
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self.inbox: SimpleQueue[ToEngine] = SimpleQueue()
        self.loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self.is_serving = False
        self._ended = asyncio.Event()
        self._interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = Thread(target=self._main, name="llm engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._is_stopping = True
        self.inbox.put(Stop())
        await self._ended.wait()
        self._thread.join()

    # ---- in the thread ----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            service, loaded = self._build(self._config, self._progress)
        except LlmError as error:
            self._call(self._on_not_loaded, error)
        except Exception as error:  # whatever a model's library raises, the gateway is told and lives
            logger.exception("a model could not be loaded")
            self._call(self._on_not_loaded, EngineStopped(f"the model could not be loaded: {type(error).__name__}"))
        else:
            self._call(self._on_loaded, loaded)
            serve(service, self.inbox, self._emit)
        self._call(self._on_end)

    def _progress(self, doing: str, done: float) -> None:
        if self._is_stopping:
            raise EngineStopped("the model was stopped while it loaded")
        self._call(self._on_progress, doing, done)

    def _emit(self, messages: Many[FromEngine]) -> None:
        self._call(self._on_messages, messages)

    def _call(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            logger.warning("the event loop closed before its engine had stopped")

    # ---- in the event loop ------------------------------------------------------------------------------------------

    def _on_progress(self, doing: str, done: float) -> None:
        self._host.on_progress(doing, done)

    def _on_loaded(self, loaded: Loaded) -> None:
        self.is_serving = True
        if not self.loaded.done():
            self.loaded.set_result(loaded)

    def _on_not_loaded(self, error: LlmError) -> None:
        if not self.loaded.done():
            self.loaded.set_exception(error)

    def _on_messages(self, messages: Many[FromEngine]) -> None:
        for message in messages:
            if isinstance(message, Broken):
                self.is_serving = False
            self._host.on_message(message)

    def _on_end(self) -> None:
        self.is_serving = False
        sys.setswitchinterval(self._interval_s)
        self._ended.set()
