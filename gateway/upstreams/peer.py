"""A server that was started, greeted and listed, for one task (or for the operator): what it offers *here*, by digest.

What a task's server offers is compared with what the decision was made on before every call: a description that
changed between the pin and this process is not called. It decides nothing for anybody else: a process has read its
task's data, and what it lists could carry them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.errors import PratiqueError, UpstreamError
from gateway.options import ServerOptions
from gateway.ports import Sampler
from gateway.upstreams import handshake
from gateway.upstreams.calls import Calls
from gateway.upstreams.handshake import Greeting, ProbeFailed
from gateway.upstreams.stdio import Connection
from gateway.wire.upstream import Era
from policies.describe import digests
from policies.jsonvalue import JSON

logger = logging.getLogger(__name__)

MAX_RELISTS = 10
RELISTS_S = 60.0
"""How often one process is listed again, and in which time."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one process said, whole, after which it announced no change."""

    tools: list[JSON]
    instructions: str
    digests: Mapping[str, str]
    """By tool name; the instructions under the empty one."""


@dataclass(slots=True, kw_only=True)
class Peer:
    options: ServerOptions
    task: str
    """Empty for the operator's own."""
    connection: Connection
    timeout_s: float
    sampler: Sampler | None = None
    """Where the server is told that its requests for a model are answered: who answers them."""
    on_listed: Callable[[Listing], None] = lambda _: None
    """Told of every whole listing."""
    calls: Calls = field(init=False)
    greeting: Greeting | None = None
    offered: Mapping[str, str] = field(default_factory=dict)
    """Tool name to the digest of what this process says of it now."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear while the server is being listed again: nothing is called meanwhile."""
    used: float = 0.0
    """When a call last ended, on the loop's clock."""
    _announced: int = 0
    _listed_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RELISTS))
    _relisting: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.calls = Calls(connection=self.connection, sampler=self.sampler)

    @property
    def samples(self) -> bool:
        return self.sampler is not None

    @property
    def is_busy(self) -> bool:
        return self.connection.is_busy or self.calls.is_busy

    async def open(self, era: Era | None) -> Listing:
        """Greet and list; a server that cannot be is ended, whatever it was that went wrong.

        Raises:
            UpstreamError: the server cannot be spoken to; with the end of its stderr.
        """
        self.connection.on_tools_changed = self._changed
        self.connection.open()
        try:
            greeting = await handshake.greet(self.connection, era, self.timeout_s, samples=self.samples)
            if greeting.era is Era.LEGACY:  # a modern server has no requests of its own
                self.calls.hear()
            found = await self._list_until_quiet(greeting)
        except BaseException as error:
            await self.close("could not be opened", politely=False)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, UpstreamError):
                logger.exception("a server's words broke their reader", extra={"server": self.options.name})
            kind = ProbeFailed if isinstance(error, ProbeFailed) else UpstreamError
            raise kind(_sentence(self.options.name, str(error), self.connection.last_words)) from error
        self.greeting = greeting  # from here on an announced change begins a listing of its own
        self.settled.set()
        return found

    async def close(self, reason: str, *, politely: bool = True) -> int:
        if self._relisting is not None:
            self._relisting.cancel()
        status = await self.connection.close(reason, politely=politely)
        await self.calls.close()
        return status

    async def _list_until_quiet(self, greeting: Greeting) -> Listing:
        """A change that is announced during a listing may not be in it."""
        while True:
            announced = self._announced
            self._take_turn()
            tools = await handshake.list_tools(self.connection, greeting.era, self.timeout_s, samples=self.samples)
            if announced == self._announced:
                break
        found = Listing(tools, greeting.instructions, digests(tools, greeting.instructions))
        self.offered = found.digests
        self.on_listed(found)
        return found

    def _take_turn(self) -> None:
        """Raises:
        UpstreamError: it was listed as often as it may be.
        """
        now = asyncio.get_running_loop().time()
        if len(self._listed_at) == MAX_RELISTS and now - self._listed_at[0] < RELISTS_S:
            raise UpstreamError("the server announced too many changes of its tools")
        self._listed_at.append(now)

    def _changed(self) -> None:
        """The server's own word for it: nothing is called until it has been listed again."""
        self._announced += 1
        self.settled.clear()
        if self.greeting is not None and (self._relisting is None or self._relisting.done()):
            self._relisting = asyncio.create_task(self._relist(self.greeting), name="upstream relist")

    async def _relist(self, greeting: Greeting) -> None:
        reason = "its tools changed and could not be listed again"
        try:
            await self._list_until_quiet(greeting)
            reason = ""
        except PratiqueError as error:
            logger.warning("an upstream could not be listed again", extra={"server": self.options.name})
            reason = f"{reason}: {error}"
        finally:
            if reason:
                self.connection.end(reason)
            self.settled.set()  # listed, or ended: whoever waits is answered either way


def _sentence(server: str, reason: str, last_words: str) -> str:
    said = f"; it last wrote to stderr:\n{last_words}" if last_words else ""
    return f"server '{server}': {reason}{said}"
