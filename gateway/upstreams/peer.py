"""A server that was started, greeted and listed, for one task (or for the operator): what it offers *here*, by digest.

What a task's server offers is compared with what the decision was made on before every call: a description that
changed between the pin and this process is not called.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.errors import PratiqueError, UpstreamError
from gateway.options import ServerOptions
from gateway.upstreams import handshake
from gateway.upstreams.handshake import Greeting, ProbeFailed
from gateway.upstreams.stdio import Connection
from gateway.wire.upstream import Era
from policies.describe import Survey, survey

logger = logging.getLogger(__name__)

MAX_RELISTS = 100
"""How often one process may say that its tools changed."""

Report = Callable[[Survey], Awaitable[None]]
"""Told of every listing before anything is called on the strength of it; returns once it is durable."""
Pinned = Callable[[str], frozenset[str]]
"""The names of a server's tools that are known already."""


@dataclass(slots=True, kw_only=True)
class Peer:
    options: ServerOptions
    task: str
    """Empty for the operator's own."""
    connection: Connection
    report: Report
    pinned: Pinned
    timeout_s: float
    greeting: Greeting | None = None
    offered: dict[str, str] = field(default_factory=dict)
    """Tool name to the digest of what this process says of it now."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear while the server is being listed again: nothing is called meanwhile."""
    used: float = 0.0
    """When a call last ended, on the loop's clock."""
    _relists: int = 0
    _relisting: asyncio.Task[None] | None = None

    async def open(self, era: Era | None) -> Survey:
        """Greet and list; a server that cannot be is ended.

        Raises:
            UpstreamError: the server cannot be spoken to; with the end of its stderr.
            Unrecordable: what it offers could not be recorded.
        """
        self.connection.on_tools_changed = self._changed
        self.connection.open()
        try:
            greeting = await handshake.greet(self.connection, era, self.timeout_s)
            found = await self._list_until_quiet(greeting)
        except (PratiqueError, asyncio.CancelledError) as error:
            await self.close("could not be opened", politely=False)
            if not isinstance(error, UpstreamError):
                raise
            kind = ProbeFailed if isinstance(error, ProbeFailed) else UpstreamError
            raise kind(_sentence(self.options.name, str(error), self.connection.last_words)) from error
        self.greeting = greeting  # from here on an announced change begins a listing of its own
        self.settled.set()
        return found

    async def close(self, reason: str, *, politely: bool = True) -> int:
        if self._relisting is not None:
            self._relisting.cancel()
        return await self.connection.close(reason, politely=politely)

    async def _list_until_quiet(self, greeting: Greeting) -> Survey:
        """A change that is announced during a listing may not be in it."""
        while True:
            announced = self._relists
            found = await self._list(greeting)
            if announced == self._relists:
                return found

    async def _list(self, greeting: Greeting) -> Survey:
        tools = await handshake.list_tools(self.connection, greeting.era, self.timeout_s)
        name = self.options.name
        found = survey(name, tools, greeting.instructions, pinned=self.pinned(name))
        await self.report(found)
        self.offered = {tool.name: tool.digest for tool in found.offered.values()}
        return found

    def _changed(self) -> None:
        """The server's own word for it: nothing is called until it has been listed again."""
        self._relists += 1
        self.settled.clear()
        if self._relists > MAX_RELISTS:
            self.connection.end("the server announced too many changes of its tools")
        elif self.greeting is not None and (self._relisting is None or self._relisting.done()):
            self._relisting = asyncio.create_task(self._relist(self.greeting), name="upstream relist")

    async def _relist(self, greeting: Greeting) -> None:
        try:
            await self._list_until_quiet(greeting)
        except PratiqueError as error:
            logger.warning("an upstream could not be listed again", extra={"server": self.options.name})
            self.connection.end(f"its tools changed and could not be listed again: {error}")
        finally:
            self.settled.set()  # listed, or ended: whoever waits is answered either way


def _sentence(server: str, reason: str, last_words: str) -> str:
    said = f"; it last wrote to stderr:\n{last_words}" if last_words else ""
    return f"server '{server}': {reason}{said}"
