"""Real servers of npm and of PyPI, started by name from an image: no program of the host, and no network."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.images import RECIPE, built_image

from sandbox import Bubblewrap, Mount, Session, Spec
from sandbox.images import Store
from sandbox.spec import Image


@pytest.fixture(scope="module")
def image() -> Image:
    return built_image()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "new.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [("mcp-server-filesystem",), ("npx", "-y", "@modelcontextprotocol/server-filesystem@2026.8.31")],
    ids=["by its name", "by npx"],
)
async def test_a_server_of_npm_serves_a_mounted_folder(tmp_path: Path, image: Image, command: tuple[str, ...]) -> None:
    (tmp_path / "note.txt").write_text("from the host")

    async with _server(image, (*command, "/data"), tmp_path, "/data") as server:
        assert "read_text_file" in await _tools(server)
        result = await _ask(server, "tools/call", name="read_text_file", arguments={"path": "/data/note.txt"})

    assert result["content"] == [{"type": "text", "text": "from the host"}]


@pytest.mark.parametrize("command", [("mcp-server-git",), ("uvx", "mcp-server-git")], ids=["by its name", "by uvx"])
async def test_a_server_of_pypi_serves_a_mounted_repository(
    repository: Path, image: Image, command: tuple[str, ...]
) -> None:
    async with _server(image, command, repository, "/home/me/repo") as server:
        assert "git_status" in await _tools(server)
        result = await _ask(server, "tools/call", name="git_status", arguments={"repo_path": "/home/me/repo"})

    assert "new.txt" in result["content"][0]["text"]


@pytest.mark.promise("image-only")
async def test_a_real_image_shows_no_program_of_the_host_and_no_network(image: Image) -> None:
    look = (
        "import os, socket; print(*sorted(os.listdir('/usr/bin')));"
        "print(open('/proc/net/dev').read().count(':'), os.getuid());"
        "print(socket.socket().connect_ex(('127.0.0.1', 22)))"
    )

    session = await Bubblewrap.find().start(Spec(argv=("python3", "-c", look), image=image))
    programs, interfaces, refused = (await session.stdout.read()).decode().splitlines()
    await session.wait()

    root = Path(image.root)
    assert set(programs.split()) == set(os.listdir(root / "usr/bin"))
    assert set(os.listdir("/usr/bin")) - set(programs.split())  # else the host's could not be told from the image's
    assert interfaces.split()[0] == "1"
    assert interfaces.split()[1] != "0"
    assert refused != "0"


def test_an_image_says_exactly_what_is_in_it_and_nothing_of_where_it_came_from(image: Image) -> None:
    entries = Store(folder=Path(image.root).parents[1]).entries()
    (entry,) = (entry for entry in entries if entry.digest == image.digest)

    assert {*RECIPE.npm} <= {*entry.npm}
    assert {*RECIPE.pypi} <= {*entry.pypi}
    assert len(entry.npm) > len(RECIPE.npm)
    opt = Path(image.root) / "opt"
    assert not [*opt.rglob(".npmrc"), *opt.rglob("pip.conf"), *opt.rglob(".package-lock.json")]
    assert not (Path(image.root) / "etc/apt").exists()


@asynccontextmanager
async def _server(image: Image, argv: tuple[str, ...], source: Path, target: str) -> AsyncIterator[Session]:
    mounts = (Mount(source=str(source), target=target),)
    session = await Bubblewrap.find().start(Spec(argv=argv, image=image, mounts=mounts))
    try:
        client = {"name": "test", "version": "1"}
        told = await _ask(session, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        assert told["serverInfo"]["name"]
        session.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        yield session
    finally:
        session.kill()
        await session.wait()


async def _tools(server: Session) -> set[str]:
    return {tool["name"] for tool in (await _ask(server, "tools/list"))["tools"]}


async def _ask(server: Session, method: str, **params: Any) -> Any:
    server.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params}).encode() + b"\n"
    )
    while line := await server.stdout.readline():
        answer = json.loads(line)
        if answer.get("id") == method:
            return answer["result"]
    raise AssertionError((await server.stderr.read()).decode())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("npx", "-y", "left-pad"), "npx: left-pad is not in this image"),
        (("npx", "--call", "ls"), "npx: --call is not known"),
        (("uvx", "ruff@0.1"), "uvx: ruff is not in this image"),
    ],
)
async def test_a_runner_starts_what_is_there_and_says_what_is_not(
    image: Image, command: tuple[str, ...], said: str
) -> None:
    session = await Bubblewrap.find().start(Spec(argv=command, image=image))
    complained = await session.stderr.read()

    assert await session.wait() != 0
    assert said.encode() in complained
