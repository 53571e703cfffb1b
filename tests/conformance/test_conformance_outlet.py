"""An outlet is the only way out of every sandbox: what it allows is reached through it, and nothing past it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from conformance.running import python, ran, running

from sandbox.driver import Driver
from sandbox.egress.budget import Budget
from sandbox.egress.events import Closed, Connected, Event, Refused
from sandbox.egress.proxy import Proxy
from sandbox.egress.reach import Reached, connect
from sandbox.egress.rules import Rule
from sandbox.egress.visits import Visits

pytestmark = pytest.mark.promise("conformance-outlet")

ALLOWED = Rule("api.example.com", 80)
PUBLIC = "93.184.216.34"
"""What the allowed name is said to lead to; a listener of ours takes its place."""
BODY = "found\n" * 50_000

ASKS = """
import json, os, socket, sys
proxy = os.environ["HTTP_PROXY"].removeprefix("http://").rsplit(":", 1)
said = {}
for host in ("api.example.com", "other.example.com", "127.0.0.1", "169.254.169.254"):
    caller = socket.create_connection((proxy[0], int(proxy[1])), 30)
    caller.sendall(f"GET http://{host}/x HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
    with caller.makefile("rb") as answer:
        head, _, body = answer.read().partition(b"\\r\\n\\r\\n")
    said[host] = [int(head.split()[1]), body.decode()]
for name, address in {"direct": ("127.0.0.1", int(sys.argv[1])), "outside": ("93.184.216.34", 80)}.items():
    try:
        socket.create_connection(address, 2).close()
        said[name] = "reached"
    except OSError as refused:
        said[name] = "refused"
try:
    socket.getaddrinfo("api.example.com", 80)
    said["dns"] = "answered"
except OSError:
    said["dns"] = "silent"
print(json.dumps(said))
"""


@dataclass(slots=True)
class Origin:
    """The server that is allowed, on our own loopback."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n{BODY}".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[Origin]:
    origin = Origin()
    async with await asyncio.start_server(origin.answer, "127.0.0.1", 0) as server:
        origin.port = server.sockets[0].getsockname()[1]
        yield origin


def outlet(origin: Origin, events: list[Event]) -> Proxy:
    """The real one; only the world behind it is ours."""

    async def resolved(host: str) -> list[str]:
        return [PUBLIC]

    async def connected(address: str, port: int) -> Reached:
        assert (address, port) == (PUBLIC, 80)
        return await connect("127.0.0.1", origin.port)

    async def record(event: Event) -> None:
        events.append(event)

    budget = Budget(most_bytes=10_000_000, most_connections=10)
    visits = Visits(record=record, budget=budget, resolve=resolved, connect=connected)
    return Proxy(rules=frozenset({ALLOWED}), visits=visits)


async def test_what_is_allowed_is_reached_through_the_outlet_and_nothing_else_at_all(driver: Driver) -> None:
    events: list[Event] = []
    async with served() as origin, running(driver, python(ASKS, str(origin.port)), outlet(origin, events)) as session:
        out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
        assert (await session.wait(), err) == (0, b"")
    said = json.loads(out)
    assert said["api.example.com"] == [200, BODY]
    assert {said[host][0] for host in ("other.example.com", "127.0.0.1", "169.254.169.254")} == {403}
    assert (said["direct"], said["outside"], said["dns"]) == ("refused", "refused", "silent")
    assert [request.split(b"\r\n")[0] for request in origin.asked] == [b"GET /x HTTP/1.1"]
    assert [type(event) for event in events if not isinstance(event, Refused)] == [Connected, Closed]
    assert len([event for event in events if isinstance(event, Refused)]) == 3


async def test_without_an_outlet_there_is_no_forwarder(driver: Driver) -> None:
    source = "import os, socket; print('HTTP_PROXY' in os.environ); socket.create_connection(('127.0.0.1', 3128), 2)"
    ended = await ran(driver, python(source))
    assert (ended.status, ended.out) == (1, "False\n")
    assert "refused" in ended.err
