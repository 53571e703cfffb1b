"""A real gateway's desk, store and sessions, behind an address of its own where its model is a scripted one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.bootstrap import Running
from gateway.edges.console.pages import console_app
from gateway.edges.front import by_path, not_found
from gateway.edges.listen import bind_tcp, listen_tcp
from gateway.edges.rest import Office, rest_app
from support.scripted_model import ScriptedModel


@dataclass(frozen=True)
class Desked:
    """Where such a gateway's console is."""

    gateway: Running
    url: str

    def console_link(self) -> str:
        return f"{self.url}/console/enter#{self.gateway.sessions.link()}"


@asynccontextmanager
async def with_model(gateway: Running, model: ScriptedModel | None) -> AsyncIterator[Desked]:
    """The operators' edges of `gateway`, as they are where its model is this one."""
    bound = bind_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    office = Office(
        control=gateway.control,
        desk=gateway.desk,
        servers=gateway.servers,
        workspaces=gateway.workspaces,
        sessions=gateway.sessions,
        reader=gateway.memory.reader,
        console_url=url,
        is_agent_token=lambda _token: False,
        model=model,
    )
    front = by_path(rest_app(office), console_app(office), origin=url, is_ready=lambda: True, model=not_found)
    listener = await listen_tcp(front, bound)
    try:
        yield Desked(gateway, url)
    finally:
        await listener.close()
        bound.close()
