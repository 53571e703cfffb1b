"""The model of this gateway: loaded beside everything else, asked once it is there, its decisions kept as evidence."""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from audit.event import Event
from gateway.errors import LlmRefused, Unrecordable
from gateway.ids import new_id
from gateway.llm import extracts
from gateway.llm.asjson import as_json
from gateway.llm.asking import Asker, owner
from gateway.llm.kept import Generations
from gateway.llm.offer import GENERATE
from gateway.options import MODEL_SERVER, ExtractOptions, LlmOptions
from gateway.ports import Done, Ledger
from llmcore.client import Client
from llmcore.errors import LlmError
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Loaded
from llmcore.messages import Checkpoint, Decision, Suspended
from llmcore.quotas import Quota
from llmcore.text import Tokenizer
from policies.action import Action, Subject
from policies.jsonvalue import JSONObject

logger = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_S = 30.0
"""How long after it broke the model is loaded again; doubled each time, up to an hour."""
MOST_RUNNING = 32
"""Sequences at once; one agent has three quarters of them at most, and half of the queue, so that others find room."""
KEPT_KV_MB = 4
"""Keys and values that a suspended generation keeps on disk; of a longer one they are computed again."""
MOST_WATCHED = 20_000
"""Actions whose task is remembered for the decisions that are still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model that answers."""

    client: Client
    asker: Asker
    loaded: Loaded


@dataclass(slots=True, kw_only=True)
class Model:
    """One model, its host, and what is said of it."""

    options: LlmOptions
    extracts: Mapping[str, ExtractOptions]
    kept: Generations
    ledger: Ledger
    key: bytes = field(repr=False)
    clock: Callable[[], float]
    cache: Path
    """Where converted models lie."""
    status: str = "not started"
    is_lost: bool = False
    """It could not be loaded, and is not tried again before the gateway's next start."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was loaded, or could not be, for the first time."""
    _ready: Ready | None = None
    _keeping: asyncio.Task[None] | None = None
    _subjects: OrderedDict[str, Subject] = field(default_factory=OrderedDict)
    """By action: whose it is."""
    _resumable: set[str] = field(default_factory=set)
    """Those of them that may be gone on with: not a server's samples, nor a question to a text."""
    _writes: set[asyncio.Task[None]] = field(default_factory=set)
    _disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "generations"))

    @property
    def name(self) -> str:
        """As clients name it: `smollm2`, or the folder's or the file's own name."""
        return Path(self.options.model).name.removesuffix(".gguf")

    @property
    def is_ready(self) -> bool:
        return self._ready is not None

    def ready(self) -> Ready:
        """
        Raises:
            LlmRefused: it is still loading, or could not be loaded; the sentence says which.
        """
        if self._ready is None:
            code = "model_failed" if self.is_lost else "unavailable"
            raise LlmRefused(code, f"the model {self.name} is not ready: {self.status}")
        return self._ready

    def start(self) -> None:
        """Begin to load; whoever asks before it is there is told how far it is."""
        self.status = "loading"
        self._keeping = asyncio.create_task(self._keep(), name="the model")

    async def stop(self) -> None:
        """Suspend what runs, end the engine, write down what it decided."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._ready is not None:
            ready, self._ready, self.status = self._ready, None, "the gateway is closing"
            await ready.client.stop()
        await asyncio.gather(*self._writes, return_exceptions=True)
        self._disk.shutdown()

    def watch(self, action: Action) -> None:
        """Whose action it is: decisions name it; and what an agent asked for itself is kept over a crash."""
        self._subjects[action.id] = action.subject
        if action.name == GENERATE:
            self._resumable.add(action.id)
        while len(self._subjects) > MOST_WATCHED:
            self._resumable.discard(self._subjects.popitem(last=False)[0])

    def is_resumable(self, action: str) -> bool:
        """Whether its owner may suspend it and go on with it."""
        return action in self._resumable

    def extraction(self, arguments: JSONObject) -> JSONObject:
        """A typed question and its text as arguments of a generation."""
        return extracts.question(self.extracts[str(arguments["as"])], str(arguments["text"]))

    async def forget(self, owned_by: str, action: str) -> None:
        """What was kept of a generation that has ended."""
        await self.on_disk(partial(self.kept.forget, owned_by, action))

    def on_disk(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """What touches `kept`, one after the other as it was asked for: what has ended stays forgotten, and whoever
        looks sees what was written before.
        """
        return asyncio.get_running_loop().run_in_executor(self._disk, work)

    async def record(self, kind: str, payload: JSONObject, *, task: str = "", ticket: str = "") -> None:
        """One event of the model's.

        Raises:
            Unrecordable: it was not written.
        """
        event = Event(
            id=new_id("evt"),
            kind=kind,
            time=self.clock(),
            payload=payload,
            server=MODEL_SERVER,
            task=task,
            ticket=ticket,
        )
        await self.ledger.run(lambda _db: Done(value=None, events=(event,)))

    def document(self) -> JSONObject:
        """The model as operators see it; what is not known before it is loaded is null."""
        loaded = self._ready.loaded if self._ready is not None else None
        return {
            "name": self.name,
            "source": self.options.model,
            "architecture": loaded.architecture if loaded else None,
            "status": self.status,
            "window": loaded.window if loaded else None,
            "kv_blocks": loaded.num_blocks if loaded else None,
            "dtype": loaded.dtype if loaded else None,
            "weights": loaded.weights if loaded else None,
        }

    # ---- its life -----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Load it; where the engine breaks, load it again, each time after a longer wait."""
        wait_s = AGAIN_S
        while True:
            client = self._client()
            try:
                loaded = await client.start()
                words = await asyncio.to_thread(Tokenizer.open, Path(loaded.tokenizer))
            except LlmError as error:
                self.status, self.is_lost = f"failed: {error}", True
                logger.error("the model could not be loaded", extra={"error": str(error)})
                self.settled.set()
                return  # what is wrong with it does not mend itself
            except asyncio.CancelledError:
                await client.stop()
                raise
            asker = Asker(words=words, window=loaded.window, key=self.key)
            self._ready, self.status = Ready(client=client, asker=asker, loaded=loaded), "ready"
            self.settled.set()
            logger.info("the model is ready", extra={"model": self.name})
            reason = await client.broken()
            self._ready, self.status = None, f"failed: {reason}; it is loaded again in {wait_s:.0f} s"
            logger.error("the model's engine broke", extra={"error": reason})
            await client.stop()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 3_600.0)

    def _client(self) -> Client:
        options = self.options
        return Client.of(
            HostConfig(
                model=options.model,
                cache=str(self.cache),
                kv_memory_mb=options.kv_memory_mb,
                host_memory_mb=options.swap_memory_mb,
                scheduling=options.scheduling,
                shares=dict(options.shares),
                precision=options.precision,
                threads=options.threads or max(1, (os.cpu_count() or 1) // 2),
                max_waiting=options.queue,
                tenant_memory=options.agent_memory,
                max_step_tokens=options.step_tokens,
                checkpoint_tokens=options.checkpoint_tokens,
                snapshot_kv_mb=KEPT_KV_MB,
                max_running=MOST_RUNNING,
                quota=Quota(max_running=MOST_RUNNING * 3 // 4, max_waiting=max(1, options.queue // 2)),
            ),
            isolation=options.isolation,
            on_decisions=self._decided,
            on_checkpoint=self._checkpoint,
            on_progress=self._progressed,
        )

    def _progressed(self, what: str, done: float) -> None:
        self.status = f"loading: {what} {done:.0%}"

    def _decided(self, decisions: tuple[Decision, ...]) -> None:
        """A second's decisions, as one event; sums over them are what was served."""
        said = [self._decision(one) for one in decisions]
        self._write(self.record("llm.decided", {"decisions": said}))

    def _decision(self, decision: Decision) -> JSONObject:
        subject = self._subjects.get(decision.request)
        document: JSONObject = {key: value for key, value in as_json(decision).items() if value}
        return document | ({"task": subject.task, "agent": subject.agent} if subject else {})

    def _checkpoint(self, kept: Checkpoint | Suspended) -> None:
        subject = self._subjects.get(kept.id)
        if subject is not None and kept.id in self._resumable:
            self._write(self.on_disk(partial(self.kept.save, owner(subject), kept.id, kept.snapshot)))

    def _write(self, writing: Any) -> None:
        """Write in the background, in a task that is waited for at the end; what fails is said, and nothing stops."""
        task = asyncio.ensure_future(_said_if_it_fails(writing))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


async def _said_if_it_fails(writing: Any) -> None:
    try:
        await writing
    except (LlmError, Unrecordable) as error:
        logger.error("the model's evidence or a checkpoint was not written", extra={"error": str(error)})
