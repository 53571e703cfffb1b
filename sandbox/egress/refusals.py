"""Refusals of one sandbox, written down: the first ones each, a flood of them slowed and counted."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from sandbox.egress.events import Record, Refused, Unrecorded, quoted
from sandbox.egress.refusal import Refusal

logger = logging.getLogger(__name__)

LISTED: Final = 50
"""Those that are written down one by one; later ones are counted, and told at each power of two."""
PACE_S: Final = 0.05
"""What each one past those takes at least."""


@dataclass(slots=True, kw_only=True, eq=False)
class Refusals:
    """All of one sandbox."""

    record: Record
    count: int = 0
    _told: int = 0

    async def add(self, refusal: Refusal) -> None:
        """One more."""
        self.count += 1
        is_round = not self.count & (self.count - 1)
        if self.count <= LISTED or is_round:
            count = 1 if self.count <= LISTED else self.count
            await self._tell(Refused(target=quoted(refusal.target), why=refusal.why, count=count))
        if self.count > LISTED:
            await asyncio.sleep(PACE_S)

    async def sum_up(self) -> None:
        """At the end: how many there were, if that was not said."""
        if self._told < self.count:
            await self._tell(Refused(target="", why="refused in all", count=self.count))

    async def _tell(self, event: Refused) -> None:
        self._told = self.count
        try:
            await self.record(event)
        except Unrecorded:
            logger.error("a refusal of the egress proxy was not recorded")
