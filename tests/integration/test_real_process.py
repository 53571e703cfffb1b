"""`pratique serve` in a process of its own: the forwarder under the official stdio client, and a restart that no client
of the legacy era notices.
"""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from support.live import connected
from support.rich import PACK, SERVERS, TOOLS, command
from support.strangers import Step, speak, texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRATIQUE = str(Path(sys.executable).with_name("pratique"))
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Home:
    """A user's files: the settings, the state, and a token."""

    root: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def state(self) -> tuple[str, str]:
        return ("--state", str(self.root / "state"))

    @property
    def token_file(self) -> Path:
        return self.root / "token"

    def forwarder(self, *more: str) -> StdioServerParameters:
        """What an MCP client's own settings would hold."""
        arguments = ["stdio", "--token-file", str(self.token_file), *self.state, *more]
        return StdioServerParameters(command=PRATIQUE, args=arguments)

    def settle_in(self) -> None:
        words = ", ".join(f'"{word}"' for word in command("modern"))
        (self.root / "pratique.toml").write_text(
            f"""
            [gateway]
            listen = "127.0.0.1:{self.port}"
            [server.rich]
            command = [{words}]
            env = {{ RICH_LOG = "{self.root}/log/modern" }}
            mounts = ["{SERVERS}:ro", "{self.root}/log:rw"]
            pack = "{PACK}"
            """
        )
        (self.root / "log").mkdir()

    async def grant(self) -> None:
        words = ("grant", "--task", "Look around", "--allow", "rich.*", "--write", str(self.token_file), *self.state)
        granting = await asyncio.create_subprocess_exec(PRATIQUE, *words, stdout=PIPE)
        await granting.communicate()
        assert granting.returncode == 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Process]:
        """The gateway, once it says where it is."""
        settings = str(self.root / "pratique.toml")
        with (self.root / "stderr").open("wb") as stderr:
            serving = await asyncio.create_subprocess_exec(
                PRATIQUE, "serve", "--config", settings, *self.state, stdout=PIPE, stderr=stderr
            )
        try:
            async with asyncio.timeout(START_S):
                assert serving.stdout
                assert await serving.stdout.readline() == f"agents: {self.url}\n".encode()
            yield serving
        finally:
            if serving.returncode is None:
                serving.terminate()
            await serving.wait()


def new_home(root: Path) -> Home:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        home = Home(root, free.getsockname()[1])
    home.settle_in()
    return home


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    home = new_home(tmp_path_factory.mktemp("home"))
    async with home.serving():
        await home.grant()
        yield home


@pytest.mark.promise("forwarder-both-eras")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_the_official_stdio_client_works_through_the_forwarder(home: Home, mode: str) -> None:
    steps = [
        Step("rich__same", {"value": "ahoy ü"}),
        Step("rich__big", {"kib": 2000}),
        Step("rich__steps", {"count": 3}),
        Step("rich__slow", cancel_at=2),
        Step("rich__fails"),
    ]
    async with Client(home.forwarder(), mode=mode) as client:
        said = await speak(client, steps)
    assert len(said.tools) == TOOLS
    assert texts(said.results[0]) == '{"value": "ahoy \\u00fc"}'
    assert len(texts(said.results[1])) == 2000 * 1024
    assert texts(said.results[2]) == "done"
    assert said.results[3] == "cancelled"
    assert texts(said.results[4]) == "no such account"
    assert said.progress[3][-1] == (2, 2, None)


async def test_the_forwarder_shows_one_server_under_its_own_names(home: Home) -> None:
    async with Client(home.forwarder("--server", "rich"), mode="legacy") as client:
        said = await speak(client, [Step("same", {"value": 1})])
    assert "same" in {tool["name"] for tool in said.tools}
    assert texts(said.results[0]) == '{"value": 1}'


@pytest.mark.promise("sessions-survive-restart")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_legacy_client_goes_on_when_the_gateway_is_started_again(tmp_path: Path, end: signal.Signals) -> None:
    home = new_home(tmp_path)
    async with AsyncExitStack() as clients:
        async with home.serving() as gateway:
            await home.grant()
            over_http = await clients.enter_async_context(connected(home.url, home.token_file.read_text(), "legacy"))
            over_stdio = await clients.enter_async_context(Client(home.forwarder(), mode="legacy"))
            for client in (over_http, over_stdio):
                assert texts((await speak(client, [Step("rich__same", {"value": 1})])).results[0]) == '{"value": 1}'
            gateway.send_signal(end)
            await gateway.wait()
        assert ("stopping: " in (tmp_path / "stderr").read_text()) == (end is signal.SIGTERM)
        async with home.serving():
            for client in (over_http, over_stdio):
                assert texts((await speak(client, [Step("rich__same", {"value": 2})])).results[0]) == '{"value": 2}'
            await clients.aclose()
