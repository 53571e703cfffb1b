"""The two ways a step reaches the servers, both with the official client: wired straight to them, or the gateway."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from gateway.demo.agent import Call, Reply, Step

SERVERS = ("calendar", "flights", "bank", "mail")
DECISION = "dev.pratique/decision"
ASK_AGAIN_S = 0.5


def command(server: str, folder: Path) -> tuple[str, ...]:
    """How one demo server is started."""
    return (sys.executable, "-P", "-m", f"gateway.demo.servers.{server}", str(folder))


@asynccontextmanager
async def straight(folder: Path) -> AsyncIterator[Call]:
    """Every server is the agent's own child process, with its folder below `folder`; nobody stands between."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for server in SERVERS:
            program, *arguments = command(server, folder / server)
            parameters = StdioServerParameters(command=program, args=arguments)
            clients[server] = await stack.enter_async_context(Client(parameters))

        async def call(step: Step) -> Reply:
            return _reply(await clients[step.server].call_tool(step.tool, dict(step.arguments)))

        yield call


@asynccontextmanager
async def through(url: str, token: str) -> AsyncIterator[Call]:
    """One streamable HTTP connection to the gateway, with the task's token."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}))
        client = await stack.enter_async_context(Client(streamable_http_client(url, http_client=http)))

        async def call(step: Step) -> Reply:
            name, arguments = f"{step.server}__{step.tool}", dict(step.arguments)
            reply = _reply(await client.call_tool(name, arguments))
            while reply.code == "pending":  # a person has not decided yet: the same call again meets their answer
                await asyncio.sleep(ASK_AGAIN_S)
                reply = _reply(await client.call_tool(name, arguments))
            return reply

        yield call


def _reply(result: types.CallToolResult) -> Reply:
    if not result.is_error and isinstance(result.structured_content, Mapping):
        return Reply(result=result.structured_content)
    decision = (result.meta or {}).get(DECISION, {})
    said = " ".join(block.text for block in result.content if isinstance(block, types.TextContent))
    return Reply(code=str(decision.get("code") or said), action=str(decision.get("action", "")))
