"""What the scenarios share: a till and its pack, a caller over a raw socket, and a gateway with one control taken out.

"Off" is a pipeline that a test composes itself, behind a port of its own: the store, the servers, their sandboxes and
the HTTP edge stay the real ones.
"""

import asyncio
import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audit.query import Filter, Record, query
from audit.report import Report
from audit.verify import verify
from gateway.bootstrap import Running, running
from gateway.control import Granted
from gateway.corridor import AgentCorridor
from gateway.edges.front import not_found
from gateway.edges.http import Edge
from gateway.edges.listen import bind_tcp, listen_tcp
from gateway.options import Access, Mount, Options, ServerOptions
from gateway.pipeline import Pipeline
from gateway.settings import SHIPPED
from gateway.stores import tickets
from gateway.stores.sessions import LedgerSessions
from gateway.stores.tickets import Ticket, TicketState
from gateway.walls import Walls
from sandbox.drivers import tried

OPERATOR = "test:operator"
SERVERS = Path(__file__).parents[1] / "servers"
SOAK = 5 if os.environ.get("PRATIQUE_SOAK") == "1" else 1
"""How many times as long the counted tests run."""
PAYEE = "DE89370400440532013000"
STRANGER = "DE02120300000000202051"

PACK = """
[tool.pay]
effect = "spend"
amount = { argument = "amount_cents", currency = "currency" }
[tool.pay.arguments]
to = { role = "dest", form = "iban" }
amount_cents = { role = "number", form = "number" }
currency = { role = "control" }
memo = { role = "body" }
[tool.note]
effect = "write"
arguments = { to = { role = "dest" }, text = { role = "body" } }
[tool.read]
effect = "read"
pure = true
arguments = { what = { role = "control" } }
[tool.read.result]
"/passport" = { integrity = "attested", form = "id", readers = ["user"], class = "passport" }
"/payee" = { integrity = "trusted", form = "iban" }
"/id" = { integrity = "attested", form = "id" }
[tool.big]
effect = "read"
arguments = { bytes = { role = "number" } }
[tool.deep]
effect = "read"
arguments = { depth = { role = "number" } }
[tool.huge]
effect = "read"
[tool.drip]
effect = "read"
arguments = { seconds = { role = "number" } }
[tool.tick]
effect = "read"
arguments = { seconds = { role = "number" } }
[tool.phish]
effect = "read"
[tool.echo]
effect = "read"
arguments = { value = { role = "number" }, text = { role = "number" } }
[flow]
till = ["till"]
passport = []
"""
"""The till's. `passport` is declared for no sink: sending it anywhere asks."""


def iban(number: int) -> str:
    """A German account number with the right check digits (ISO 13616)."""
    basic = f"{number:018d}"
    return f"DE{98 - int(basic + '131400') % 97:02d}{basic}"


# ---- the world -------------------------------------------------------------------------------------------------


def till(folder: Path, *more: str, name: str = "till", pack: str = PACK, **options: Any) -> ServerOptions:
    """A till whose folder, and beside it its pack, are made where they are missing."""
    folder.mkdir(exist_ok=True, parents=True)
    written = folder.parent / f"{folder.name}.toml"
    written.write_text(pack)
    return ServerOptions(
        name=name,
        command=(sys.executable, "-P", "-S", str(SERVERS / "till.py"), str(folder), *more),
        mounts=(Mount(path=folder, access=Access.DIRECT), Mount(path=SERVERS)),
        pack=str(written),
        **options,
    )


def recorded(folder: Path) -> list[dict[str, Any]]:
    """What the till says that it did."""
    path = folder / "record"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until_closed(folder: Path) -> None:
    """Until no till runs in this folder any more: what a killed gateway had sent may still be on its way."""
    with open(folder / "alive", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


_WALLS: list[Walls] = []


async def real_walls() -> Walls:
    """The real driver, tried on this machine once for all scenarios."""
    if not _WALLS:
        _WALLS.append(Walls(tried=await tried(("bubblewrap",)), profiles=SHIPPED))
    return _WALLS[0]


@asynccontextmanager
async def scene(state: Path, *servers: ServerOptions, **options: Any) -> AsyncIterator[Running]:
    """A gateway on a free port with these servers in real sandboxes."""
    by_name = {server.name: server for server in servers}
    chosen = Options(**{"state": state, "port": 0, "sandboxes": SHIPPED, "servers": by_name, **options})
    async with running(chosen, await real_walls()) as gateway:
        try:
            yield gateway
        finally:
            hang_up()


async def grant(gateway: Running, *allow: str, **bounds: Any) -> Granted:
    return await gateway.control.grant(text="Do as the test says.", allow=allow, by=OPERATOR, **bounds)


async def decide(gateway: Running, ticket: str, *, approve: bool = True) -> None:
    """A person's answer to a ticket."""
    asked = tickets.load(gateway.memory.reader, ticket)
    assert asked is not None
    await gateway.desk.decide(ticket, approve=approve, by=OPERATOR, call_digest=asked.call_digest)


@asynccontextmanager
async def answering(gateway: Running, judge: Callable[[Ticket], bool]) -> AsyncIterator[list[Ticket]]:
    """A person at the desk within the block; what was asked."""
    asked: asyncio.Queue[Ticket] = asyncio.Queue()
    seen: list[Ticket] = []

    def listen(ticket: Ticket) -> None:
        if ticket.state is TicketState.PENDING:
            asked.put_nowait(ticket)

    async def answer() -> None:
        while True:
            seen.append(ticket := await asked.get())
            await decide(gateway, ticket.id, approve=judge(ticket))

    person = asyncio.create_task(answer())
    gateway.desk.listeners.add(listen)
    try:
        yield seen
    finally:
        gateway.desk.listeners.discard(listen)
        person.cancel()


async def until(happened: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for what another process brings about and nobody announces.

    Raises:
        TimeoutError: it did not happen.
    """
    async with asyncio.timeout(within_s):
        while not happened():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)


def events(gateway: Running, **wanted: Any) -> list[Record]:
    """The log, oldest first."""
    return query(gateway.memory.reader, Filter(**wanted), limit=1000)


def verified(database: Path, copy: Path) -> Report:
    """The offline verifier on a copy of the log, taken as SQLite takes one."""
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as there,
        closing(sqlite3.connect(copy)) as here,
    ):
        there.backup(here)
    return verify(copy)


# ---- with one control off --------------------------------------------------------------------------------------


def without(pipeline: Pipeline, stage: str) -> Pipeline:
    """The pipeline with one stage missing."""
    left = tuple(one for one in pipeline.stages if one.name != stage)
    assert len(left) == len(pipeline.stages) - 1
    return replace(pipeline, stages=left)


@asynccontextmanager
async def beside(gateway: Running, pipeline: Pipeline, *, hold_s: float = 45.0) -> AsyncIterator[str]:
    """The same gateway at a second address, its calls through another pipeline; the address."""
    bound = bind_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    corridor = AgentCorridor(
        authority=gateway.control.authority,
        pipeline=pipeline,
        desk=gateway.desk,
        ledger=gateway.ledger,
        memory=gateway.memory,
        definitions=gateway.servers.definitions,
        clock=time.time,
        hold_s=hold_s,
    )
    store = LedgerSessions(gateway.ledger, gateway.memory.reader)
    listener = await listen_tcp(Edge(corridor, store, not_found, public=url), bound)
    try:
        yield url
    finally:
        await listener.close()
        bound.close()


# ---- an agent --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came back for one request."""

    status: int
    body: Any
    """The whole JSON-RPC message; of a stream, the last one."""
    events: int = 0
    """Messages before the last."""

    @property
    def code(self) -> str:
        """The gateway's word for why not; empty where the tool answered."""
        return str(self._decision.get("code", ""))

    @property
    def action(self) -> str:
        return str(self._decision.get("action", ""))

    @property
    def ticket(self) -> str:
        return str(self._decision.get("ticket", ""))

    @property
    def result(self) -> Any:
        """The tool's structured result."""
        return self.body["result"].get("structuredContent")

    @property
    def _decision(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body.get("result", {}).get("_meta", {}).get("dev.pratique/decision", {})
        return found


def request(
    token: str, name: str, arguments: Any, *, progress: bool = False, raw: bytes | None = None, **fields: str
) -> bytes:
    """One `tools/call` of 2026-07-28 as bytes; `raw`: another body."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if progress:
        meta["progressToken"] = "p"
    params = {"name": name, "arguments": arguments, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message).encode() if raw is None else raw
    head = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
        "authorization": f"Bearer {token}",
        "content-length": str(len(body)),
    } | {key.replace("_", "-"): value for key, value in fields.items()}
    lines = "".join(f"{key}: {value}\r\n" for key, value in head.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body


_CONNECTED: list["Agent"] = []


def hang_up() -> None:
    """Close every agent's connection."""
    while _CONNECTED:
        _CONNECTED[-1].close()


@dataclass(slots=True, eq=False)
class Agent:
    """One keep-alive connection, closed when its scene ends if not before."""

    url: str
    token: str
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None)

    async def call(self, name: str, /, **arguments: Any) -> Said:
        return await self.ask(request(self.token, name, arguments))

    async def ask(self, asked: bytes) -> Said:
        """Send what may be any bytes, and read one answer."""
        await self.send(asked)
        return await self.answer()

    async def send(self, some: bytes) -> None:
        """A part of a request, or a whole one."""
        if self._streams is None:
            where = urlsplit(self.url)
            self._streams = await asyncio.open_connection(where.hostname, where.port, limit=1 << 26)
            _CONNECTED.append(self)
        self._streams[1].write(some)
        await self._streams[1].drain()

    async def answer(self) -> Said:
        assert self._streams is not None
        reader = self._streams[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            whole = b""
            while size := int(await reader.readline(), 16):
                whole += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
            messages = [line[6:] for line in whole.splitlines() if line.startswith(b"data: ")]
            return Said(status=status, body=json.loads(messages[-1]), events=len(messages) - 1)
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        return Said(status=status, body=json.loads(body) if body else None)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
            _CONNECTED.remove(self)
