"""Every server discovered once, each on its own; those that fail are tried again until they answer."""

import asyncio
import logging
from dataclasses import dataclass, field

from gateway.errors import PratiqueError
from gateway.upstreams.backoff import Backoff
from gateway.upstreams.table import Discovery, Table

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Finder:
    """One operator connection per server at start-up. `failures` and `found` are what `server list` shows."""

    table: Table
    at_once: int = 2
    """Servers that start at the same time."""
    found: dict[str, Discovery] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Server to the sentence that says why it is not there, with the end of its stderr."""

    async def first(self) -> None:
        """One try for each server; returns when every one has answered or failed."""
        room = asyncio.Semaphore(self.at_once)
        async with asyncio.TaskGroup() as tries:
            for server in self.table.servers:
                tries.create_task(self._try_when(room, server))

    async def keep_trying(self) -> None:
        """Try those that failed until none is left, each with its own doubling delay."""
        async with asyncio.TaskGroup() as tries:
            for server in list(self.failures):
                tries.create_task(self._until_found(server))

    async def _until_found(self, server: str) -> None:
        loop, backoff = asyncio.get_running_loop(), Backoff()
        while server in self.failures:
            backoff.failed(loop.time(), self.failures[server])
            await asyncio.sleep(backoff.wait_s(loop.time()))
            await self.find(server)

    async def _try_when(self, room: asyncio.Semaphore, server: str) -> None:
        async with room:
            await self.find(server)

    async def find(self, server: str) -> None:
        """One try."""
        try:
            self.found[server] = await self.table.discover(server)
        except PratiqueError as error:
            self.failures[server] = str(error)
            logger.warning("a server could not be discovered", extra={"server": server, "error": str(error)})
        else:
            self.failures.pop(server, None)
