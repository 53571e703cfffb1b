"""Connections outward: a name to its public addresses, one of them to a connection, every step within the budget.

Nothing is connected to before it is written down, and whatever was written down as begun is written down as over.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from sandbox.egress.addresses import is_public
from sandbox.egress.budget import Budget, Metered
from sandbox.egress.events import Closed, Connected, Exhausted, Record, Unrecorded
from sandbox.egress.reach import Connect, Reached, Resolve, connect, resolve
from sandbox.egress.refusal import Cut, Refusal
from sandbox.egress.rules import Rule

logger = logging.getLogger(__name__)

TRIES: Final = 3
"""Addresses of a name that are tried."""
CUT: Final = "cut by the sandbox"


@dataclass(slots=True, kw_only=True, eq=False)
class Visits:
    """One sandbox's connections to where it may go."""

    record: Record
    budget: Budget
    resolve: Resolve = resolve
    connect: Connect = connect
    admits: Callable[[str], bool] = is_public
    """Which addresses a name may lead to."""
    _told: set[str] = field(default_factory=set)
    """Which budgets were said to have run out."""

    @asynccontextmanager
    async def visit(self, to: Rule) -> AsyncIterator[Metered]:
        """A connection, for as long as the block lasts.

        Raises:
            Refusal: none may be made, or none could be.
            Cut: whatever the block raised.
        """
        for address in (await self._addresses(to))[:TRIES]:
            number = await self._opened()
            began, metered, why = time.monotonic(), None, CUT
            try:
                await self._announce(Connected(connection=number, host=to.host, port=to.port, address=address))
                reached = await self._reached(address, to.port)
                if reached is None:
                    why = "could not be reached"
                    continue
                metered = Metered(under=reached, budget=self.budget)
                try:
                    yield metered
                except BaseException:
                    reached.abort()
                    raise
                reached.close()
                why = "ended"
                return
            except (Cut, Refusal) as wrong:
                why = wrong.why
                raise
            finally:
                await self.tell_exhausted()
                closed = Closed(
                    connection=number,
                    host=to.host,
                    port=to.port,
                    address=address,
                    sent_bytes=metered.sent_bytes if metered else 0,
                    received_bytes=metered.received_bytes if metered else 0,
                    duration_s=round(time.monotonic() - began, 6),
                    why=why,
                )
                await self._report(closed)
        raise Refusal("could not be reached", status=502)

    async def tell_exhausted(self) -> None:
        """Say, once, which budget has run out."""
        budget = self.budget
        if budget.is_over and "bytes" not in self._told:
            self._told.add("bytes")
            await self._report(Exhausted(what="bytes", limit=budget.most_bytes))

    async def _opened(self) -> int:
        try:
            return self.budget.open()
        except Refusal:
            if not self.budget.is_over and "connections" not in self._told:
                self._told.add("connections")
                await self._report(Exhausted(what="connections", limit=self.budget.most_connections))
            raise

    async def _addresses(self, to: Rule) -> list[str]:
        try:
            found = await self.resolve(to.host)
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            raise Refusal("its name could not be looked up", status=502) from None
        public = [address for address in found if self.admits(address)]
        if not public:
            raise Refusal("its name leads to no public address" if found else "its name has no address")
        return public

    async def _reached(self, address: str, port: int) -> Reached | None:
        try:
            return await self.connect(address, port)
        except OSError:
            return None

    async def _announce(self, event: Connected) -> None:
        try:
            await self.record(event)
        except Unrecorded:
            raise Refusal("the connection could not be recorded", status=503) from None

    async def _report(self, event: Closed | Exhausted) -> None:
        """What is over cannot be undone: that it was not written down is for the operator."""
        try:
            await self.record(event)
        except Unrecorded:
            logger.error("an egress event was not recorded", extra={"event_kind": type(event).__name__})
