"""Sandboxes started ahead of need: nobody has spoken to them, and each is handed out once.

A pool never shares: what is taken is gone from it, and another is started behind it. Starts go one at a time, so that
filling a pool takes no more of the machine than one start does; what dies while it waits is swept, and waits longer
before it is tried again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar


class Ends(Protocol):
    """What a pool needs to know of a session."""

    async def wait(self) -> int: ...

    def kill(self) -> None: ...


K = TypeVar("K")
S = TypeVar("S", bound=Ends)

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 300.0


@dataclass(slots=True)
class _Shelf(Generic[S]):
    """What is kept of one kind."""

    start: Callable[[], Awaitable[S | None]]
    count: int
    ready: deque[S] = field(default_factory=deque)
    filling: asyncio.Task[None] | None = None
    wait_s: float = 0.0


@dataclass(slots=True)
class Pool(Generic[K, S]):
    """Ready sessions by kind. Everything happens on one event loop."""

    _shelves: dict[K, _Shelf[S]] = field(default_factory=dict)
    _one_at_a_time: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Holds for the whole pool: how many sandboxes are being started."""
    _watching: set[asyncio.Task[None]] = field(default_factory=set)
    _closed: bool = False

    def keep(self, kind: K, count: int, start: Callable[[], Awaitable[S | None]]) -> None:
        """From now on keep `count` of this kind ready. `start` answers None where it failed: tried again, later."""
        shelf = self._shelves.setdefault(kind, _Shelf(start, count))
        shelf.start, shelf.count = start, count
        self._fill(shelf)

    def take(self, kind: K) -> S | None:
        """One that is ready, for the caller alone; None: none is, and the caller starts its own."""
        shelf = self._shelves.get(kind)
        if shelf is None:
            return None
        taken = shelf.ready.popleft() if shelf.ready else None
        if taken is not None:
            shelf.wait_s = 0.0
        self._fill(shelf)
        return taken

    def ready(self, kind: K) -> int:
        """How many are waiting."""
        return len(self._shelves[kind].ready) if kind in self._shelves else 0

    async def close(self) -> None:
        """End all that is kept. What was taken is not touched."""
        self._closed = True
        for shelf in self._shelves.values():
            if shelf.filling is not None:
                shelf.filling.cancel()
                await asyncio.gather(shelf.filling, return_exceptions=True)
            for session in shelf.ready:
                session.kill()
            await asyncio.gather(*(session.wait() for session in shelf.ready))
            shelf.ready.clear()
        for watching in self._watching:
            watching.cancel()

    def _fill(self, shelf: _Shelf[S]) -> None:
        if not self._closed and shelf.filling is None and len(shelf.ready) < shelf.count:
            shelf.filling = asyncio.create_task(self._fill_up(shelf), name="pool")

    async def _fill_up(self, shelf: _Shelf[S]) -> None:
        try:
            while len(shelf.ready) < shelf.count:
                await asyncio.sleep(shelf.wait_s)
                async with self._one_at_a_time:
                    session = await shelf.start()
                if session is None:
                    shelf.wait_s = _longer(shelf.wait_s)
                    continue
                shelf.ready.append(session)
                self._watch(shelf, session)
        finally:
            shelf.filling = None

    def _watch(self, shelf: _Shelf[S], session: S) -> None:
        watching = asyncio.create_task(self._swept(shelf, session), name="pool watch")
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _swept(self, shelf: _Shelf[S], session: S) -> None:
        """Once it has ended: if nobody had taken it, it is no use to anybody."""
        await session.wait()
        if session in shelf.ready:
            shelf.ready.remove(session)
            shelf.wait_s = _longer(shelf.wait_s)
            self._fill(shelf)


def _longer(wait_s: float) -> float:
    return min(max(2 * wait_s, FIRST_WAIT_S), LONGEST_WAIT_S)
