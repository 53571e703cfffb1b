"""The official Python client, both eras, over a real server: list, call, progress, cancel, 401, restart, slow body."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from support.edge import Echo, Rows, edge, message, served

MODES = ("legacy", "auto", "2026-07-28")


@asynccontextmanager
async def client(url: str, mode: str, token: str = "tok-alice") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=10) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as connected,
    ):
        yield connected


@pytest.mark.parametrize("mode", MODES)
async def test_the_client_lists_calls_sees_progress_and_is_refused_the_rest(mode: str) -> None:
    corridor = Echo()
    shown: list[float] = []

    async def on_progress(progress: float, total: float | None, text: str | None) -> None:
        assert (total, text) == (None, None)
        shown.append(progress)

    async with served(edge(corridor, Rows())) as url, client(f"{url}/mcp", mode) as connected:
        assert [tool.name for tool in (await connected.list_tools()).tools] == ["echo__say"]
        arguments = {"text": "ü", "steps": 2}
        result = await connected.call_tool("echo__say", arguments, progress_callback=on_progress)
        assert result.content[0].text == "ü"
        assert shown[-1] == 2.0
        with pytest.raises(MCPError, match="resources/list is not yet mediated"):
            await connected.list_resources()
        assert (await connected.call_tool("echo__say", {"text": "again"})).content[0].text == "again"


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_call_is_cancelled_in_the_corridor_and_the_client_lives_on(mode: str) -> None:
    corridor = Echo()
    async with served(edge(corridor, Rows())) as url, client(f"{url}/mcp", mode) as connected:
        waiting = asyncio.create_task(connected.call_tool("echo__say", {"forever": True}))
        await corridor.started.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            await corridor.cancelled.wait()
        assert not (await connected.call_tool("echo__say", {})).is_error


@pytest.mark.promise("unauthorised-metadata")
@pytest.mark.parametrize("mode", MODES)
async def test_a_foreign_token_is_shown_to_be_unauthorized(mode: str) -> None:
    async with served(edge(Echo(), Rows())) as url:
        with pytest.raises((MCPError, ExceptionGroup)) as caught:
            async with client(f"{url}/mcp", mode, token="foreign") as connected:
                await connected.list_tools()
        assert (
            caught.group_contains(MCPError, match="Unauthorized")
            if isinstance(caught.value, ExceptionGroup)
            else "Unauthorized" in str(caught.value)
        )


@pytest.mark.promise("sessions-survive-restart")
async def test_a_legacy_client_does_not_notice_a_restart() -> None:
    corridor, rows = Echo(), Rows()
    async with AsyncExitStack() as stack:
        async with served(edge(corridor, rows)) as url:
            connected = await stack.enter_async_context(client(f"{url}/mcp", "legacy"))
            await connected.call_tool("echo__say", {})
        async with served(edge(corridor, rows), port=urlsplit(url).port or 0):
            result = await connected.call_tool("echo__say", {"text": "still here"})
            assert result.content[0].text == "still here"
            await stack.aclose()
    assert len(corridor.called) == 2
    assert rows.rows == {}  # a client that leaves ends its session


@pytest.mark.promise("slow-body")
async def test_a_slow_body_holds_up_nobody_and_is_served_when_it_is_whole() -> None:
    corridor = Echo()
    body = message("tools/list", 7, _meta={})
    fields = (
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer tok-alice\r\ncontent-type: application/json\r\n"
        f"accept: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with served(edge(corridor, Rows())) as url:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(fields.encode() + body[:-1])
        await writer.drain()
        async with client(f"{url}/mcp", "2026-07-28") as connected:
            await connected.call_tool("echo__say", {"text": "meanwhile"})
        assert len(corridor.called) == 1
        writer.write(body[-1:])
        answer = await reader.read()
        writer.close()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"] == "Bad Request: Mcp-Session-Id is missing"
