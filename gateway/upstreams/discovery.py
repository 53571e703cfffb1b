"""Every server discovered for the operator, each on its own: at start until it answers, and again when a task's
process lists something else.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from gateway.errors import PratiqueError
from gateway.upstreams.backoff import Backoff
from gateway.upstreams.table import Discovery, Table

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 300.0
"""How soon after it was discovered a server is looked at again because a task's process lists something else."""


@dataclass(slots=True, kw_only=True)
class Finder:
    """One operator connection per server. `failures` and `found` are what `server list` shows."""

    table: Table
    at_once: int = 2
    """Servers that start at the same time."""
    found: dict[str, Discovery] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Server to the sentence that says why it is not there, with the end of its stderr."""

    look_again_s: float = LOOK_AGAIN_S
    _differs: dict[str, asyncio.Event] = field(init=False)
    """Set for a server whose tools a task has seen otherwise."""

    def __post_init__(self) -> None:
        self._differs = {server: asyncio.Event() for server in self.table.servers}
        self.table.on_difference = lambda server: self._differs[server].set()

    async def first(self) -> None:
        """One try for each server; returns when every one has answered or failed."""
        room = asyncio.Semaphore(self.at_once)
        async with asyncio.TaskGroup() as tries:
            for server in self.table.servers:
                tries.create_task(self._try_when(room, server))

    async def keep_trying(self) -> None:
        """Until cancelled: those that failed are tried again, each with its own doubling delay; those of which a task
        has seen something else are looked at again, each once in a while."""
        async with asyncio.TaskGroup() as tries:
            for server in self.table.servers:
                tries.create_task(self._keep(server))

    async def _keep(self, server: str) -> None:
        loop, backoff, not_before = asyncio.get_running_loop(), Backoff(), 0.0
        while True:
            if server in self.failures:
                backoff.failed(loop.time(), self.failures[server])
                await asyncio.sleep(backoff.wait_s(loop.time()))
            else:
                backoff.succeeded()
                await self._differs[server].wait()
                await asyncio.sleep(max(0.0, not_before - loop.time()))
                not_before = loop.time() + self.look_again_s
            self._differs[server].clear()
            await self.find(server)

    async def _try_when(self, room: asyncio.Semaphore, server: str) -> None:
        async with room:
            await self.find(server)

    async def find(self, server: str) -> None:
        """One try, that troubles no other server whatever comes of it: a broad catch (decision 10)."""
        try:
            self.found[server] = await self.table.discover(server)
        except PratiqueError as error:
            self.failures[server] = str(error)
            logger.warning("a server could not be discovered", extra={"server": server, "error": str(error)})
        except Exception:
            self.failures[server] = f"server '{server}': looking at it broke; the gateway's log says how"
            logger.exception("discovery broke", extra={"server": server})
        else:
            self.failures.pop(server, None)
