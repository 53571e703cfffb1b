"""An engine in a child process: its Python never holds the gateway's interpreter, its death is not the gateway's.

The child is ours alone: its standard input and output carry `frames.py`, what it prints goes to our standard error, its
environment is a short list of names, and it ends when the pipe does.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from llmcore.errors import EngineStopped, ModelError
from llmcore.hosts.config import HostConfig
from llmcore.hosts.frames import LENGTH_BYTES, FromChild, Loading, NotLoaded, checked_length, framed, from_child
from llmcore.hosts.host import Loaded, OnMessage, OnProgress
from llmcore.messages import Broken, Stop, ToEngine

logger = logging.getLogger(__name__)

CHILD: Final = "llmcore.hosts.child"
PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""The environment's names that a model's libraries may need; no secret of the gateway's is among them."""
STOP_S: Final = 10.0
"""How long a child may take to suspend what runs, before it is killed."""
EXIT_S: Final = 5.0
"""How long a child that has closed its output may take to end."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0


class ProcessHost:
    """Implements `hosts.host.Host`."""

    def __init__(
        self,
        config: HostConfig,
        *,
        module: str = CHILD,
        environment: Mapping[str, str] = {},
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """`module` is run with `python -P -m`; `environment` is added to what is passed on."""
        self.on_message: OnMessage = lambda _: None
        self.on_progress: OnProgress = lambda _, __: None
        self._config = config
        self._module = module
        self._environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | dict(environment)
        self._first_wait_s = first_wait_s
        self._wait_s = 0.0
        """Before the next start: doubled by each early death, forgotten when it is stopped."""
        self._child: _Child | None = None

    @property
    def is_alive(self) -> bool:
        return self._child is not None and self._child.is_serving

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return self._child.process.pid if self._child is not None else None

    async def start(self) -> Loaded:
        if self._child is not None:
            await self._child.stop()
        await asyncio.sleep(self._wait_s)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self._module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # a terminal's interrupt is the gateway's, which then stops it
        )
        self._child = _Child(self, process)
        self._child.write(framed(self._config))
        try:
            return await self._child.loaded
        except asyncio.CancelledError:
            await self.stop()
            raise

    def send(self, message: ToEngine) -> None:
        if self._child is None or not self._child.is_serving:
            raise EngineStopped("the model is not running")
        self._child.write(framed([message]))

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()
            self._child, self._wait_s = None, 0.0

    def on_death(self, lived_s: float) -> None:
        """The child ended unasked: the next start waits, and the longer the sooner that was."""
        again = self._first_wait_s if lived_s > LONGEST_WAIT_S else max(2 * self._wait_s, self._first_wait_s)
        self._wait_s = min(again, LONGEST_WAIT_S)


class _Child:
    """One life of the child, and the task that reads what it says."""

    def __init__(self, host: ProcessHost, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._host = host
        self._loop = asyncio.get_running_loop()
        self.loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self.is_serving = False
        self._born = self._loop.time()
        self._is_stopping = False
        self._listening = asyncio.create_task(self._listen(), name="llm child")

    def write(self, frame: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(frame)

    async def stop(self) -> None:
        """Ask it to end, where it can hear; then see that it did."""
        self._is_stopping = True
        if self.is_serving:
            self.write(framed([Stop()]))
        else:
            self._kill()
        _, late = await asyncio.wait([self._listening], timeout=STOP_S)
        if late:
            logger.warning("the model's process did not stop in time", extra={"pid": self.process.pid})
            self._kill()
            await self._listening

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    async def _listen(self) -> None:
        """Until the child has ended; then whoever still waits for it is told."""
        try:
            await self._read()
            async with asyncio.timeout(EXIT_S):  # to kill it sooner would take its status from whoever waits for it
                await self.process.wait()
        except TimeoutError:
            logger.warning("the model's process has nothing to say and does not end", extra={"pid": self.process.pid})
        except (ValueError, msgspec.MsgspecError):
            logger.exception("the model's process is out of step", extra={"pid": self.process.pid})
        finally:
            if self.process.returncode is None:
                self._kill()
            status = await self.process.wait()
        self._end(f"the model's process ended ({f'signal {-status}' if status < 0 else f'status {status}'})")

    async def _read(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = checked_length(await pipe.readexactly(LENGTH_BYTES))
                for message in from_child.decode(await pipe.readexactly(length)):
                    self._hear(message)

    def _hear(self, message: FromChild) -> None:
        match message:
            case Loading():
                self._loop.call_soon(self._host.on_progress, message.doing, message.done)
            case Loaded():
                self.is_serving = True
                if not self.loaded.done():
                    self.loaded.set_result(message)
            case NotLoaded():
                if not self.loaded.done():
                    self.loaded.set_exception(ModelError(message.reason))
            case _:
                self.is_serving = self.is_serving and not isinstance(message, Broken)
                self._loop.call_soon(self._host.on_message, message)

    def _end(self, reason: str) -> None:
        if not self.loaded.done():
            self.loaded.set_exception(EngineStopped(reason))
        if self._is_stopping:
            self.is_serving = False
            return
        self._host.on_death(self._loop.time() - self._born)
        if self.is_serving:
            self.is_serving = False
            self._loop.call_soon(self._host.on_message, Broken(reason))
