"""The forwarder: both eras over stdin and stdout, whom it trusts with the token, what it says when the gateway goes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from support.edge import Echo, Rows, edge, message, served

from gateway.cli.stdio import read_lines, read_token
from gateway.edges.agent_socket import AgentSocket, NotSent, check_folder
from gateway.edges.stdio import Forwarder
from gateway.errors import ConfigError

PROGRAM = "import typer; from gateway.cli.stdio import stdio; typer.run(stdio)"
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    (state / "token").write_text("tok-alice\n")
    return state


class Line:
    """The client's end of a forwarder: lines in, lines out, no process."""

    def __init__(self, folder: Path, uid: int | None = None) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        path, uid = folder / "agent.sock", os.geteuid() if uid is None else uid
        self.forwarder = Forwarder(AgentSocket(path=path, token="tok-alice", route="/mcp", uid=uid), self._written)

    async def _written(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        await self.answers.put(json.loads(line))

    async def _read(self) -> AsyncIterator[bytes]:
        while (line := await self._lines.get()) is not None:
            yield line

    def run(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.forwarder.run(self._read()))

    def say(self, *lines: bytes) -> None:
        for line in lines:
            self._lines.put_nowait(line + b"\n")

    def leave(self) -> None:
        self._lines.put_nowait(None)


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_official_client_launches_it_in_either_era(folder: Path, mode: str) -> None:
    launched = StdioServerParameters(
        command=sys.executable,
        args=["-c", PROGRAM, "--token-file", str(folder / "token"), "--state", str(folder)],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    shown: list[float] = []

    async def on_progress(progress: float, total: float | None, text: str | None) -> None:
        shown.append(progress)

    corridor, rows = Echo(), Rows()
    async with served(edge(corridor, rows), folder / "agent.sock"), Client(launched, mode=mode) as connected:
        assert [tool.name for tool in (await connected.list_tools()).tools] == ["echo__say"]
        result = await connected.call_tool("echo__say", {"text": "hi", "steps": 2}, progress_callback=on_progress)
        assert result.content[0].text == "hi"
        assert shown[-1] == 2.0
        waiting = asyncio.create_task(connected.call_tool("echo__say", {"forever": True}))
        corridor.started.clear()
        await corridor.started.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            await corridor.cancelled.wait()
        assert len(rows.rows) == (mode == "legacy")


@pytest.mark.promise("forwarder-at-most-once")
@pytest.mark.parametrize("meta", [{}, META])
async def test_a_call_in_flight_when_the_gateway_goes_is_of_unknown_outcome_and_not_sent_again(
    folder: Path, meta: dict[str, Any]
) -> None:
    heard: list[bytes] = []
    arrived = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        arrived.set()
        writer.close()

    client = Line(folder)
    running = client.run()
    async with await asyncio.start_unix_server(swallow, folder / "agent.sock"):
        client.say(message("tools/call", 7, name="bank__pay", arguments={}, _meta=meta))
        await arrived.wait()
        answer = await client.answers.get()

    assert answer["result"]["isError"] is True
    assert answer["result"]["_meta"]["dev.pratique/decision"] == {"code": "unknown_outcome"}
    client.say(
        message("tools/call", 8, name="bank__pay", arguments={}, _meta=meta), message("tools/list", 9, _meta=meta)
    )
    by_id = {answer["id"]: answer for answer in [await client.answers.get(), await client.answers.get()]}
    assert by_id[8]["result"]["_meta"]["dev.pratique/decision"] == {"code": "unavailable"}
    assert "no gateway answers" in by_id[9]["error"]["message"]
    assert len(heard) == 1
    client.leave()
    await running


@pytest.fixture
def open_folder(folder: Path, request: pytest.FixtureRequest) -> Path:
    folder.chmod(request.param)
    return folder


async def refused_before_the_token(client: Line, folder: Path) -> str:
    """What the client is told; whoever listens hears nothing."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()

    running = client.run()
    async with await asyncio.start_unix_server(listen, folder / "agent.sock"):
        client.say(message("tools/list"))
        answer = await client.answers.get()
        client.leave()
        await running
    assert not heard
    return str(answer["error"]["message"])


@pytest.mark.promise("forwarder-checks-socket")
@pytest.mark.parametrize("open_folder", [0o755, 0o710, 0o707], indirect=True)
async def test_in_a_folder_that_others_may_enter_the_token_is_not_sent(open_folder: Path) -> None:
    assert "0700" in await refused_before_the_token(Line(open_folder), open_folder)


@pytest.mark.promise("forwarder-checks-socket")
async def test_a_socket_held_by_another_user_does_not_get_the_token(folder: Path) -> None:
    somebody_else = os.geteuid() + 1
    assert "held by another user" in await refused_before_the_token(Line(folder, somebody_else), folder)


def test_a_folder_that_is_a_link_is_not_a_folder_of_ours(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    check_folder(folder)
    with pytest.raises(NotSent):
        check_folder(link)
    with pytest.raises(NotSent):
        check_folder(folder / "nowhere")


async def test_bad_lines_and_ids_in_flight_are_answered_without_the_gateway(folder: Path) -> None:
    corridor = Echo()
    client = Line(folder)
    running = client.run()
    async with served(edge(corridor, Rows()), folder / "agent.sock"):
        client.say(b'{"jsonrpc":"2.0","id":5,"method":"x","params":{"a":"\\ud800"}}', b"nope", b"", b"[]")
        answers = [await client.answers.get() for _ in range(3)]
        assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [
            (5, -32700),
            (None, -32700),
            (None, -32600),
        ]
        held = message("tools/call", 0, name="echo__say", arguments={"forever": True}, _meta=META)
        client.say(held)
        await corridor.started.wait()
        client.say(held)
        assert "in flight" in (await client.answers.get())["error"]["message"]
        client.say(message("notifications/cancelled", None, requestId=0))
        async with asyncio.timeout(5):
            await corridor.cancelled.wait()
        client.leave()
        await running
        assert client.answers.empty()  # a cancelled request of this era is owed no answer


async def test_a_client_that_leaves_ends_its_session(folder: Path) -> None:
    rows = Rows()
    client = Line(folder)
    running = client.run()
    async with served(edge(Echo(), rows), folder / "agent.sock"):
        client.say(message("initialize", 0, protocolVersion="2025-06-18"))
        assert (await client.answers.get())["result"]["protocolVersion"] == "2025-06-18"
        assert len(rows.rows) == 1
        client.leave()
        await running
    assert rows.rows == {}


@pytest.mark.parametrize("content", ["", "  \n", "two words", "tök", "a\nb"])
def test_a_token_file_holds_one_token(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(ConfigError):
        read_token(file)
    with pytest.raises(ConfigError):
        read_token(tmp_path / "nowhere")


async def test_of_a_line_over_the_limit_only_the_start_is_kept() -> None:
    reader = asyncio.StreamReader(limit=4096)
    chunks: Sequence[bytes] = (b"one\n", b'{"id":1,' + b"x" * 20_000 + b"\n", b"two\n", b"rest")
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    lines = [line async for line in read_lines(reader)]

    assert [lines[0], lines[2], lines[3]] == [b"one\n", b"two\n", b"rest"]
    assert lines[1].startswith(b'{"id":1,')
    assert len(lines[1]) <= 1024
