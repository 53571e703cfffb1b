"""A real gateway in this process: real store, real sandboxes, a free port; grants made as an operator makes them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from gateway.bootstrap import Running, running
from gateway.control import Granted
from gateway.options import Options, ServerOptions
from gateway.settings import SHIPPED
from gateway.stores.tickets import Ticket, TicketState

OPERATOR = "test:operator"


@dataclass(frozen=True, slots=True)
class Live:
    """A gateway that is up, with one task granted."""

    gateway: Running
    granted: Granted

    @property
    def url(self) -> str:
        """Where an MCP client connects; `/NAME` appended, to one server alone."""
        return f"{self.gateway.url}/mcp"

    @property
    def token(self) -> str:
        return self.granted.token

    async def grant(self, *allow: str, text: str = "Do as the test says.") -> Granted:
        """One more task."""
        return await self.gateway.control.grant(text=text, allow=allow, by=OPERATOR)


@asynccontextmanager
async def live(
    state: Path, *servers: ServerOptions, allow: Sequence[str], options: Options | None = None
) -> AsyncIterator[Live]:
    """A gateway with these servers, whose first task may do what `allow` says. `state`: a folder of this test's own.

    `options`: where the defaults will not do; its state and servers are replaced.
    """
    by_name = {server.name: server for server in servers}
    chosen = options or Options(state=state, port=0, sandboxes=SHIPPED)
    async with running(replace(chosen, state=state, servers=by_name)) as gateway:
        granted = await gateway.control.grant(text="Do as the test says.", allow=allow, by=OPERATOR)
        yield Live(gateway, granted)


@asynccontextmanager
async def connected(url: str, token: str, mode: str) -> AsyncIterator[Client]:
    """The official Python client; `mode` is `legacy`, `auto` or a modern version."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def approving(gateway: Running) -> AsyncIterator[list[Ticket]]:
    """A person who says yes to whatever is asked, within the block; what was asked."""
    asked: asyncio.Queue[Ticket] = asyncio.Queue()
    seen: list[Ticket] = []

    def listen(ticket: Ticket) -> None:
        if ticket.state is TicketState.PENDING:
            asked.put_nowait(ticket)

    async def approve() -> None:
        while True:
            ticket = await asked.get()
            seen.append(ticket)
            await gateway.desk.decide(ticket.id, approve=True, by=OPERATOR, call_digest=ticket.call_digest)

    person = asyncio.create_task(approve())
    gateway.desk.listeners.add(listen)
    try:
        yield seen
    finally:
        gateway.desk.listeners.discard(listen)
        if person.done():
            person.result()  # a yes that could not be said is this test's failure
        person.cancel()
