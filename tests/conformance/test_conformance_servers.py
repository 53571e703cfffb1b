"""Servers that nobody here wrote say the same in every sandbox as they say without one."""

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conformance.running import running
from conformance.talking import JSON, LINE_BYTES, Said, converse
from support.images import built_image
from support.strangers import NODE, package

from sandbox import hand_over
from sandbox.driver import Driver
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

pytestmark = [pytest.mark.promise("conformance-servers"), pytest.mark.timeout(300)]

NAMES = ("filesystem", "git", "everything")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server, what it is asked, and what it says where nothing confines it."""

    spec: Spec
    """With the host's programs."""
    packed: Spec
    """The same server out of an image."""
    calls: tuple[tuple[str, JSON], ...]
    said: Said


@pytest.fixture(scope="session", params=NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "note.txt").write_text("written on the host\n")
    match request.param:
        case "filesystem":
            packed: tuple[str, ...] = ("mcp-server-filesystem", str(folder))
            command: tuple[str, ...] = (NODE, package("server-filesystem"), str(folder))
            calls: tuple[tuple[str, JSON], ...] = (
                ("read_text_file", {"path": str(folder / "note.txt")}),
                ("write_file", {"path": str(folder / "answer.txt"), "content": "ü\n"}),
                ("list_directory", {"path": str(folder)}),
            )
        case "git":
            _repository(folder)
            packed = ("mcp-server-git",)
            command = (str(Path(sys.executable).with_name("mcp-server-git")),)
            calls = (("git_status", {"repo_path": str(folder)}), ("git_log", {"repo_path": str(folder)}))
        case _:
            packed = ("mcp-server-everything",)
            command = (NODE, package("server-everything"))
            calls = (("echo", {"message": "ü" * 50_000}), ("get-sum", {"a": 2, "b": 40}))
    said = asyncio.run(_unconfined(command, calls))
    assert not any(result.get("isError") for result in said.results), said.results
    own, other = (_copy(folder, tmp_path_factory.mktemp("copy")) for _ in range(2))
    return Server(
        spec=Spec(argv=command, mounts=(*runtime_mounts(command), own)),
        packed=Spec(argv=packed, mounts=(other,), image=built_image()),
        calls=calls,
        said=said,
    )


async def test_a_real_server_says_in_a_sandbox_what_it_says_without(driver: Driver, server: Server) -> None:
    async def confined(spec: Spec) -> Said:
        async with running(driver, spec) as session:
            return await converse(session, server.calls)

    with_the_hosts_programs, out_of_an_image = await asyncio.gather(*map(confined, (server.spec, server.packed)))
    assert with_the_hosts_programs == server.said
    assert out_of_an_image == server.said


def _copy(folder: Path, to: Path) -> Mount:
    """The folder's contents at the folder's own place, inside: what servers say of paths is the same."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    hand_over(to)
    return Mount(source=str(to), target=str(folder), writable=True)


async def _unconfined(command: tuple[str, ...], calls: tuple[tuple[str, JSON], ...]) -> Said:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, limit=LINE_BYTES
    )
    try:
        return await converse(process, calls)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _repository(path: Path) -> None:
    """One commit, and a file that is not in it."""
    author = {
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
    }
    committer = {name.replace("AUTHOR", "COMMITTER"): value for name, value in author.items()}
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "note.txt"],
        ["commit", "--quiet", "-mBegin"],
    ):
        subprocess.run(["git", "-C", str(path), *arguments], check=True, env={**os.environ, **author, **committer})
    (path / "new.txt").write_text("new\n")
