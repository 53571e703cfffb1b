"""The proxy: the only way out of a sandbox, for requests to the hosts and ports that its profile names.

    (1) a head, in time and of a bounded size             (2) what is asked: a tunnel, or one plain request
    (3) its target is a rule, letter for letter            (4) resolved once, public addresses only (`visits.py`)
    (5) written down, connected by address, counted        (6) a tunnel that carries TLS names the same host

Stopped: every other name, port, address and spelling; names that lead to private addresses; a second request behind
the first; TLS to another name than the tunnel's. Not stopped: what an allowed host does with what it is told, such as
passing it on (a CONNECT inside of a tunnel is its business), and, inside of TLS that is not ended here, a Host header
other than the server name. Allow hosts that you would send the data to.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sandbox.egress.body import send_body
from sandbox.egress.budget import Budget
from sandbox.egress.events import Record
from sandbox.egress.head import Exchange, Tunnel, to_origin, to_proxy
from sandbox.egress.mux import Connection, Mux
from sandbox.egress.opening import check_hello, read_head
from sandbox.egress.refusal import Broken, Cut, Refusal
from sandbox.egress.refusals import Refusals
from sandbox.egress.rules import Rule
from sandbox.egress.streams import Peeked, Stream, joined, pump
from sandbox.egress.tls import Authority, TlsStream, outward
from sandbox.egress.visits import Visits

logger = logging.getLogger(__name__)

HEAD_S: Final = 10.0
"""For a whole head, and for a whole first message of TLS."""
LINGER_S: Final = 1.0
"""How long a client may take to close its side, once it has its answer."""
TLS_PORT: Final = 443
"""Here nothing but TLS passes; elsewhere it is looked at if it is TLS."""
_TUNNEL_OPEN: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_RECORD: Final = 0x16


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that is set in every request to a destination."""

    name: str
    value: str = field(repr=False)


@dataclass(slots=True, kw_only=True, eq=False)
class Proxy:
    """One sandbox's way out. Implements `driver.Outlet`."""

    rules: frozenset[Rule]
    visits: Visits
    headers: Mapping[Rule, Header] = field(default_factory=dict)
    """For some of the rules; a request to one of these goes over TLS, which is ended here."""
    authority: Authority | None = None
    """For the hosts of `headers`."""
    believes: ssl.SSLContext = field(default_factory=outward)
    """Whom the proxy takes for the destinations of `headers`."""
    head_s: float = HEAD_S
    _allowed: Mapping[str, Rule] = field(init=False)
    """As they are written in a request."""
    _refusals: Refusals = field(init=False)

    @classmethod
    def of(
        cls,
        rules: frozenset[Rule],
        record: Record,
        *,
        most_bytes: int,
        most_connections: int,
        headers: Mapping[Rule, Header] | None = None,
        authority: Authority | None = None,
    ) -> "Proxy":
        """With this machine's resolver and network."""
        budget = Budget(most_bytes=most_bytes, most_connections=most_connections)
        visits = Visits(record=record, budget=budget)
        return cls(rules=rules, visits=visits, headers=headers or {}, authority=authority)

    def __post_init__(self) -> None:
        self._allowed = {str(rule): rule for rule in self.rules}
        self._refusals = Refusals(record=self.visits.record)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Mux(reader=reader, writer=writer, handler=self._carry).serve()
        finally:
            await self._refusals.sum_up()

    async def _carry(self, connection: Connection) -> None:
        client = Peeked(under=connection)
        try:
            await self._answer(client)
        except Refusal as refusal:
            await self._refusals.add(refusal)
            await client.write(refusal.answer)
            await client.end()
            await _drained(client)
        except Cut as cut:
            logger.debug("an egress connection was cut", extra={"why": cut.why})

    async def _answer(self, client: Peeked) -> None:
        """Raises:
        Refusal: the client is to be told no.
        Cut: it can be told nothing any more.
        """
        head = await read_head(client, self.head_s)
        if head is None:
            return
        match to_proxy(head):
            case Tunnel(authority=authority):
                rule = self._rule(authority)
                carry = self._ended_here if rule in self.headers else self._tunnel
                await carry(client, rule)
            case Exchange(authority=authority) as exchange:
                rule = self._rule(authority if ":" in authority else f"{authority}:80")
                if rule in self.headers or rule.port == TLS_PORT:
                    raise Refusal("plain HTTP where TLS is spoken", target=authority)
                try:
                    async with self.visits.visit(rule) as server:
                        await self._exchange(client, exchange, server)
                except Refusal as refusal:
                    refusal.target = str(rule)
                    raise
                await self._farewell(client, authority)

    def _rule(self, authority: str) -> Rule:
        """Letter for letter: no spelling of a name or an address but the one that the profile has."""
        if (rule := self._allowed.get(authority)) is None:
            raise Refusal("not in the allow-list", target=authority)
        return rule

    async def _tunnel(self, client: Peeked, rule: Rule) -> None:
        """Bytes both ways. Once the client was told that it is open it can be told no more, but cut."""
        is_open = False
        try:
            async with self.visits.visit(rule) as server:
                await client.write(_TUNNEL_OPEN)
                is_open = True
                if rule.port == TLS_PORT:
                    await check_hello(client, rule.host, self.head_s)
                await joined(self._outward(client, server, rule), pump(server, client))
        except Refusal as refusal:
            refusal.target = str(rule)
            if not is_open:
                raise
            await self._refusals.add(refusal)

    async def _outward(self, client: Peeked, server: Stream, rule: Rule) -> None:
        if client.held or await client.more():
            if client.held[0] == _TLS_RECORD:
                await check_hello(client, rule.host, self.head_s)
            with suppress(Broken):  # what it has said by then is still to be handed in
                await pump(client, server)
        else:
            await server.end()

    async def _ended_here(self, client: Peeked, rule: Rule) -> None:
        """One request inside of TLS, with its header set."""
        assert self.authority is not None
        await client.write(_TUNNEL_OPEN)
        try:
            await check_hello(client, rule.host, self.head_s)
            async with asyncio.timeout(self.head_s):
                inner = Peeked(under=await TlsStream.server(client, self.authority.context(rule.host)))
        except TimeoutError:
            raise Cut("no TLS in time") from None
        except Refusal as refusal:
            refusal.target = str(rule)
            await self._refusals.add(refusal)
            return
        try:
            await self._with_header(inner, rule)
        except Refusal as refusal:
            refusal.target = str(rule)
            await self._refusals.add(refusal)
            await inner.write(refusal.answer)
            await inner.end()
            await _drained(client)

    async def _with_header(self, client: Peeked, rule: Rule) -> None:
        head = await read_head(client, self.head_s)
        if head is None:
            return
        exchange, header = to_origin(head, rule.host, rule.port), self.headers[rule]
        async with self.visits.visit(rule) as metered:
            try:
                async with asyncio.timeout(self.head_s):
                    server = await TlsStream.client(metered, self.believes, rule.host)
            except TimeoutError:
                raise Refusal("no TLS in time", status=502) from None
            except Cut as cut:
                raise Refusal(cut.why, status=502) from cut
            await self._exchange(client, exchange, server, (header.name, header.value))
        await self._farewell(client, str(rule))

    async def _exchange(
        self, client: Peeked, exchange: Exchange, server: Stream, header: tuple[str, str] | None = None
    ) -> None:
        """One request and its answer, which ends with the connection."""
        await server.write(exchange.forwarded(header))
        await joined(self._request(client, exchange, server), _response(server, client))

    async def _request(self, client: Peeked, exchange: Exchange, server: Stream) -> None:
        try:
            with suppress(Broken):  # it may have answered without reading all of it
                await send_body(client, server, exchange.length)
        except Refusal as refusal:  # part of an answer may be on its way: none can be given in its place
            refusal.target = exchange.authority
            await self._refusals.add(refusal)
            raise Cut(refusal.why) from refusal

    async def _farewell(self, client: Peeked, authority: str) -> None:
        """Whoever has his answer closes; and what he said behind his request is no request."""
        if await _drained(client):
            await self._refusals.add(Refusal("a second request behind the first", target=authority))


async def _drained(client: Stream) -> bool:
    """Let a client that has its answer close first: cut earlier, it might not have read it. Whether it said more."""
    said_more = False
    try:
        async with asyncio.timeout(LINGER_S):
            while await client.read():
                said_more = True
    except TimeoutError:
        pass
    return said_more


async def _response(server: Stream, client: Peeked) -> None:
    while data := await server.read():
        await client.write(data)
    inner = client.under
    if isinstance(server, TlsStream) and server.was_truncated and isinstance(inner, TlsStream):
        await inner.under.end()  # the client must see that the end was not TLS's own
    else:
        await client.end()
