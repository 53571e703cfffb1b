"""One call in flight: what may end it before its answer, and what then becomes of the client.

The call runs in the task of its HTTP exchange. A watch looks after it from `GRACE_S` on (most calls are over by then):
whether the client has gone, and whether its token still stands.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_S = 0.05
POLL_S = 0.5
"""How often a token is asked after: its revocation ends open calls and streams within a second."""


class Ended(StrEnum):
    """Why a call in flight was ended from outside."""

    CANCELLED = "cancelled"
    GONE = "gone"
    REVOKED = "revoked"


class Flight:
    """A call that its client, its session or its token's end may cut short. Made in the task that it will run in."""

    def __init__(
        self,
        *,
        is_live: Callable[[], bool],
        receive: Callable[[], Awaitable[Any]],
        ends_when_closed: bool,
    ) -> None:
        self.ended: Ended | None = None
        self._is_live = is_live
        self._receive = receive
        self._ends_when_closed = ends_when_closed
        self._task = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    def end(self, why: Ended) -> None:
        """Cut it short; the first reason counts. What the tool does meanwhile is the corridor's to settle."""
        if self.ended is None and self._task is not None:
            self.ended = why
            self._task.cancel()

    async def run(self, call: Awaitable[T]) -> T | Ended:
        """The call's value, or why it was ended. A cancellation from anywhere else passes through."""
        timer = asyncio.get_running_loop().call_later(GRACE_S, self._start_watch)
        try:
            return await call
        except asyncio.CancelledError:
            if self.ended is None or self._task is None or self._task.uncancel() > 0:
                raise
            return self.ended
        finally:
            timer.cancel()
            self._task = None  # from here on there is nothing to end
            if self._watch is not None:
                self._watch.cancel()

    def _start_watch(self) -> None:
        self._watch = asyncio.create_task(self._look_after())

    async def _look_after(self) -> None:
        closed = asyncio.ensure_future(self._closed())
        try:
            while True:
                await asyncio.wait({closed}, timeout=POLL_S)
                if not self._is_live():
                    return self.end(Ended.REVOKED)
                if closed.done() and self._ends_when_closed:
                    return self.end(Ended.GONE)
                if closed.done():  # this era's clients cancel by message; the call goes on unread
                    await asyncio.sleep(POLL_S)
        finally:
            closed.cancel()

    async def _closed(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
