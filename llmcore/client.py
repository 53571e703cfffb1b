"""What a gateway holds of a model: ask, listen, call off. Where the engine lives is the host's business.

Everything here belongs to one event loop.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TypeAlias

from llmcore.errors import EngineStopped
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Host, Loaded, OnProgress
from llmcore.hosts.process import ProcessHost
from llmcore.hosts.thread import ThreadHost
from llmcore.messages import (
    Broken,
    Cancel,
    Checkpoint,
    Decided,
    Decision,
    Delta,
    Done,
    FromEngine,
    Look,
    NotTaken,
    Restore,
    Seen,
    Submit,
    Suspend,
    Suspended,
)
from llmcore.request import Request

OnDecisions: TypeAlias = Callable[[tuple[Decision, ...]], None]
OnCheckpoint: TypeAlias = Callable[[Checkpoint | Suspended], None]


class Generation:
    """One request on its way: `async for event in generation` gives `Delta`s, and `Done` or `NotTaken` as the last.

    To be read once, by one reader. Events wait for a slow one; there are no more of them than tokens.
    """

    def __init__(self, id: str, host: Host) -> None:
        self.id = id
        self._host = host
        self._events: asyncio.Queue[Delta | Done | NotTaken | Broken] = asyncio.Queue()
        self._is_over = False

    def __aiter__(self) -> AsyncIterator[Delta | Done | NotTaken]:
        return self

    async def __anext__(self) -> Delta | Done | NotTaken:
        """
        Raises:
            EngineStopped: the engine is gone; the last checkpoint says how far the request had come.
        """
        if self._is_over and self._events.empty():
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Broken):
            raise EngineStopped(event.reason)
        return event

    def cancel(self) -> None:
        """Stop it; `Done` comes all the same. Nothing where it has ended."""
        self._tell(Cancel(self.id))

    def suspend(self) -> None:
        """Stop it and keep it: `on_checkpoint` gets a `Suspended`, then `Done` comes. Nothing where it has ended."""
        self._tell(Suspend(self.id))

    def hear(self, event: Delta | Done | NotTaken | Broken) -> None:
        """The client's to call."""
        self._is_over = not isinstance(event, Delta)
        self._events.put_nowait(event)

    def _tell(self, message: Cancel | Suspend) -> None:
        if not self._is_over:
            with suppress(EngineStopped):  # its reader is told soon
                self._host.send(message)


class Client:
    """One host's user."""

    def __init__(
        self,
        host: Host,
        *,
        on_decisions: OnDecisions = lambda _: None,
        on_checkpoint: OnCheckpoint = lambda _: None,
        on_progress: OnProgress = lambda _, __: None,
    ) -> None:
        host.on_message = self._hear
        host.on_progress = on_progress
        self._host = host
        self._on_decisions = on_decisions
        self._on_checkpoint = on_checkpoint
        self._generations: dict[str, Generation] = {}
        """Those that have not ended."""
        self._looks: dict[int, asyncio.Future[Seen]] = {}
        self._numbers = itertools.count()
        self._broken: asyncio.Future[str] | None = None

    @classmethod
    def of(
        cls,
        config: HostConfig,
        *,
        isolation: str,
        on_decisions: OnDecisions = lambda _: None,
        on_checkpoint: OnCheckpoint = lambda _: None,
        on_progress: OnProgress = lambda _, __: None,
    ) -> "Client":
        """On a host of its own: a `thread` of this process, or a child `process`.

        Raises:
            ValueError: `isolation` is neither.
        """
        host: Host
        match isolation:
            case "thread":
                host = ThreadHost(config)
            case "process":
                host = ProcessHost(config)
            case _:
                raise ValueError(f"an engine lives in a thread or a process, not in a {isolation!r}")
        return cls(host, on_decisions=on_decisions, on_checkpoint=on_checkpoint, on_progress=on_progress)

    @property
    def is_alive(self) -> bool:
        return self._host.is_alive

    async def start(self) -> Loaded:
        """Load the model; again after it broke.

        Raises:
            ModelError: it cannot be found, read or run.
            EngineStopped: the host ended while it loaded.
        """
        self._broken = asyncio.get_running_loop().create_future()
        return await self._host.start()

    async def stop(self) -> None:
        """Suspend what runs, then end: each generation gets its `Done`, and `on_checkpoint` its `Suspended`."""
        await self._host.stop()
        self._abandon("the model was stopped")

    async def broken(self) -> str:
        """Returns when the engine that was started cannot go on, with the reason; never while it lives."""
        assert self._broken is not None, "start() first"
        return await asyncio.shield(self._broken)

    def generate(self, request: Request) -> Generation:
        """
        Raises:
            EngineStopped: there is no engine.
            ValueError: a request of this id has not ended.
        """
        return self._begin(request.id, Submit(request))

    def restore(self, id: str, snapshot: bytes, request: Request) -> Generation:
        """Go on from a snapshot's body, as `messages.Restore` says; `request.id` is `id`.

        Raises:
            EngineStopped: there is no engine.
            ValueError: a request of this id has not ended.
        """
        return self._begin(id, Restore(id, snapshot, request))

    async def look(self) -> Seen:
        """The engine at this moment.

        Raises:
            EngineStopped: there is no engine, or none any more.
        """
        token = next(self._numbers)
        self._host.send(Look(token))
        self._looks[token] = asyncio.get_running_loop().create_future()
        try:
            return await self._looks[token]
        finally:
            del self._looks[token]

    def _begin(self, id: str, message: Submit | Restore) -> Generation:
        if id in self._generations:
            raise ValueError(f"a request {id} is on its way already")
        self._host.send(message)
        generation = self._generations[id] = Generation(id, self._host)
        return generation

    def _hear(self, message: FromEngine) -> None:
        match message:
            case Delta():
                self._generations[message.id].hear(message)
            case Done():
                self._generations.pop(message.id).hear(message)
            case NotTaken():
                self._generations.pop(message.refused.id).hear(message)
            case Suspended() | Checkpoint():
                self._on_checkpoint(message)
            case Decided():
                self._on_decisions(message.decisions)
            case Seen():
                if (look := self._looks.get(message.token)) is not None and not look.done():
                    look.set_result(message)
            case Broken():
                self._abandon(message.reason)

    def _abandon(self, reason: str) -> None:
        for generation in self._generations.values():
            generation.hear(Broken(reason))
        self._generations.clear()
        for look in self._looks.values():
            if not look.done():
                look.set_exception(EngineStopped(reason))
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(reason)
