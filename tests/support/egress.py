"""A town of names behind the egress proxy, all of it on loopback; a forwarder played by the test; a careless proxy."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

from sandbox.driver import Outlet
from sandbox.egress.budget import Budget
from sandbox.egress.events import Event, Unrecorded
from sandbox.egress.inside import AMOUNT, CREDIT, DATA, END, HEADER, OPEN, RESET
from sandbox.egress.mux import Connection, Mux
from sandbox.egress.proxy import Header, Proxy
from sandbox.egress.reach import connect
from sandbox.egress.rules import Rule
from sandbox.egress.sockets import SocketStream
from sandbox.egress.streams import Peeked, joined, pump
from sandbox.egress.tls import Authority, outward
from sandbox.egress.visits import Visits

PUBLIC, OTHER_PUBLIC, METADATA = "93.184.216.34", "93.184.216.35", "169.254.169.254"
API, EVIL = "api.example.com", "evil.example.com"


@dataclass(slots=True, kw_only=True)
class Town:
    """Who lives where, and what was heard there. Servers answer everything alike."""

    authority: Authority = field(default_factory=lambda: Authority.for_hosts([API, EVIL]))
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    """Each name's answers, one after another; the last one stays."""
    lookups: list[str] = field(default_factory=list)
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    connected: list[tuple[str, int]] = field(default_factory=list)
    heard: list[tuple[str, bytes]] = field(default_factory=list, repr=False)
    """The address that was connected to, and bytes that were read there, TLS taken off."""
    named: list[str | None] = field(default_factory=list)
    """Whom TLS asked for."""

    async def resolve(self, host: str) -> list[str]:
        self.lookups.append(host)
        if host not in self.names:
            raise OSError("no such name")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, address: str, port: int) -> SocketStream:
        self.connected.append((address, port))
        if (address, port) not in self.ports:
            raise ConnectionRefusedError
        return await connect("127.0.0.1", self.ports[address, port])

    def heard_at(self, address: str) -> bytes:
        return b"".join(data for where, data in self.heard if where == address)

    @property
    def all_heard(self) -> bytes:
        return b"".join(data for _, data in self.heard)


@asynccontextmanager
async def town(answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> AsyncIterator[Town]:
    """api.example.com on 80, 443 (TLS) and 9000 (an echo); evil.example.com and a metadata service beside it."""
    place = Town(names={API: [[PUBLIC]], EVIL: [[OTHER_PUBLIC]], "meta.example.com": [[METADATA]]})
    servers = [
        await _settle(place, PUBLIC, 80, answer),
        await _settle(place, PUBLIC, 443, answer, tls=_naming(place, API)),
        await _settle(place, PUBLIC, 9000, None),
        await _settle(place, OTHER_PUBLIC, 80, answer),
        await _settle(place, OTHER_PUBLIC, 443, answer, tls=_naming(place, EVIL)),
        await _settle(place, METADATA, 80, answer),
    ]
    try:
        yield place
    finally:
        for server in servers:
            server.close()


def _naming(place: Town, host: str) -> ssl.SSLContext:
    context = place.authority.context(host)

    def note(_connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        place.named.append(name)

    context.sni_callback = note
    return context


async def _settle(
    place: Town, address: str, port: int, answer: bytes | None, tls: ssl.SSLContext | None = None
) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                said += data
                place.heard.append((address, data))
                if answer is None:
                    writer.write(data)
                elif _is_whole(said):
                    writer.write(answer)
                    if b"connection: close" in said.lower():
                        break
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    place.ports[address, port] = server.sockets[0].getsockname()[1]
    return server


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    if b"transfer-encoding" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and len(body) >= int(length or 0)


@dataclass(slots=True, kw_only=True)
class Log:
    """Events, in order; and what refuses to write them."""

    events: list[Event] = field(default_factory=list)
    refuses: Callable[[Event], bool] = lambda _event: False

    async def __call__(self, event: Event) -> None:
        if self.refuses(event):
            raise Unrecorded
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def proxy_of(
    place: Town,
    log: Log,
    *rules: Rule,
    most_bytes: int = 1 << 30,
    most_connections: int = 1000,
    headers: dict[Rule, Header] | None = None,
    authority: Authority | None = None,
    admits: Callable[[str], bool] | None = None,
    head_s: float = 10.0,
) -> Proxy:
    """A proxy whose Internet is the town."""
    budget = Budget(most_bytes=most_bytes, most_connections=most_connections)
    visits = Visits(record=log, budget=budget, resolve=place.resolve, connect=place.connect)
    if admits is not None:
        visits.admits = admits
    believes = outward()
    believes.load_verify_locations(cadata=place.authority.certificate)
    return Proxy(
        rules=frozenset(rules),
        visits=visits,
        headers=headers or {},
        authority=authority,
        believes=believes,
        head_s=head_s,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Wire:
    """One connection, from the sandbox's side."""

    number: int
    inside: "Inside"
    arrived: bytearray = field(default_factory=bytearray)
    ended: str = ""
    """`end` or `reset`, once it has."""
    credit: int = 256 << 10
    takes: bool = True
    """Whether what arrives is taken at once."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, data: bytes) -> None:
        for place in range(0, len(data), 32768):
            self.inside.frame(DATA, self.number, data[place : place + 32768])

    def end(self) -> None:
        self.inside.frame(END, self.number)

    def reset(self) -> None:
        self.inside.frame(RESET, self.number)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`, or all there is."""
        while mark not in self.arrived and not self.ended:
            self.changed.clear()
            await self.changed.wait()
        place = self.arrived.find(mark)
        count = len(self.arrived) if place < 0 else place + len(mark)
        data = bytes(self.arrived[:count])
        del self.arrived[:count]
        return data

    async def rest(self) -> bytes:
        """Until it ends."""
        while not self.ended:
            self.changed.clear()
            await self.changed.wait()
        return bytes(self.arrived)

    async def answered(self, data: bytes) -> bytes:
        """Say this, and hear all that comes back."""
        self.send(data)
        said = await self.rest()
        self.end()
        return said

    # what a `Stream` needs, so that TLS can be spoken from here
    async def read(self) -> bytes:
        while not self.arrived and not self.ended:
            self.changed.clear()
            await self.changed.wait()
        data = bytes(self.arrived)
        self.arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        self.send(data)


@dataclass(slots=True, kw_only=True, eq=False)
class Inside:
    """A forwarder without a sandbox: frames, as it would send them."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    wires: dict[int, Wire] = field(default_factory=dict)

    def open(self) -> Wire:
        wire = Wire(number=len(self.wires) + 1, inside=self)
        self.wires[wire.number] = wire
        self.frame(OPEN, wire.number)
        return wire

    def frame(self, kind: int, number: int, payload: bytes = b"") -> None:
        self.writer.write(HEADER.pack(kind, number, len(payload)) + payload)

    async def ask(self, data: bytes) -> bytes:
        return await self.open().answered(data)

    async def listen(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, number, length = HEADER.unpack(await self.reader.readexactly(HEADER.size))
                payload, wire = await self.reader.readexactly(length), self.wires[number]
                if kind == DATA:
                    wire.arrived += payload
                    if wire.takes:
                        self.frame(CREDIT, number, AMOUNT.pack(length))
                elif kind in (END, RESET):
                    wire.ended = wire.ended or ("end" if kind == END else "reset")
                wire.changed.set()
        for wire in self.wires.values():
            wire.ended = wire.ended or "reset"
            wire.changed.set()


@asynccontextmanager
async def inside(outlet: Outlet) -> AsyncIterator[Inside]:
    """A sandbox with this outlet, as far as the proxy can tell. Leaves once the outlet is done."""
    ours, theirs = socket.socketpair()
    forwarder = Inside(**dict(zip(("reader", "writer"), await asyncio.open_unix_connection(sock=ours), strict=True)))
    async with asyncio.timeout(30), asyncio.TaskGroup() as both:
        both.create_task(outlet.serve(*await asyncio.open_unix_connection(sock=theirs)))
        both.create_task(forwarder.listen())
        try:
            yield forwarder
        finally:
            forwarder.writer.close()


@dataclass(slots=True, kw_only=True)
class Careless:
    """What filters have got wrong, all of it at once: so that an attack is known to be one."""

    place: Town
    allowed: frozenset[Rule]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Mux(reader=reader, writer=writer, handler=self._carry).serve()

    async def _carry(self, connection: Connection) -> None:
        client = Peeked(under=connection)
        while b"\n\n" not in client.held.replace(b"\r", b"") and await client.more():
            pass
        method, target, *_ = client.held.decode("latin-1").split()
        authority = target.removeprefix("http://").partition("/")[0].rpartition("@")[2].partition("\0")[0]
        host, _, port = authority.rpartition(":") if ":" in authority else (authority, "", "80")
        host = host.strip("[]").rstrip(".").lower()
        is_name = any(letter in "ghijklmnopqrstuvwyz" for letter in host)
        if method == "CONNECT" and is_name and Rule(host, int(port)) not in self.allowed:  # plain HTTP: whatever it is
            return
        if is_name:
            if await self.place.resolve(host) == [METADATA]:
                return
            (address,) = await self.place.resolve(host)  # looked up again
        else:
            address = _as_the_library_reads_it(host)
        server = await self.place.connect(address, int(port))
        if method == "CONNECT":
            client.taken(client.held.index(b"\r\n\r\n") + 4)
            await client.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await joined(pump(client, server), pump(server, client))
        finally:
            server.abort()


def _as_the_library_reads_it(host: str) -> str:
    """inet_aton(3) knows four bases and four lengths."""
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    address = ip_address(host)
    return str(getattr(address, "ipv4_mapped", None) or address)
