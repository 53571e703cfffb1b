"""Real servers behind a real gateway, mounted as a user would write it: everything, files, memory and git."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.options import Access, Mount, ServerOptions
from support.live import Live, live
from support.strangers import NODE, package


@dataclass(frozen=True, slots=True)
class Harbour:
    """The gateway, and what its servers work on: a folder each in `box` and `repos` for everyone who was named."""

    live: Live
    box: Path
    memory: Path
    repos: Path


@asynccontextmanager
async def real(root: Path, names: Iterable[str]) -> AsyncIterator[Harbour]:
    box, memory, repos = (root / folder for folder in ("box", "memory", "repos"))
    _furnish(box, memory, repos, names)
    servers = (
        ServerOptions(name="everything", command=(NODE, package("server-everything")), pack="everything"),
        ServerOptions(
            name="files",
            command=(NODE, package("server-filesystem"), str(box)),
            mounts=(Mount(path=box, access=Access.DIRECT),),
            pack="filesystem",
        ),
        ServerOptions(
            name="memory",
            command=(NODE, package("server-memory")),
            env={"MEMORY_FILE_PATH": str(memory / "graph.jsonl")},
            mounts=(Mount(path=memory, access=Access.DIRECT),),
            pack="memory",
        ),
        ServerOptions(
            name="git",
            command=(str(Path(sys.executable).with_name("mcp-server-git")),),
            mounts=(Mount(path=repos, access=Access.DIRECT),),
            pack="git",
        ),
    )
    async with live(root / "state", *servers, allow=[f"{server.name}.*" for server in servers]) as gateway:
        assert gateway.gateway.finder.found.keys() == gateway.gateway.options.servers.keys()
        yield Harbour(gateway, box, memory, repos)


def git(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True, text=True).stdout


def _furnish(box: Path, memory: Path, repos: Path, names: Iterable[str]) -> None:
    for folder in (box, memory, repos):
        folder.mkdir()
    for name in names:
        (box / name).mkdir()
        (box / name / "old.txt").write_text("one\ntwo\nthree\n")
        _repository(repos / name)


def _repository(path: Path) -> None:
    """One commit, and a change that is not in it."""
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "config", "user.name", "Ann")
    git(path, "config", "user.email", "ann@example.org")
    (path / "a.txt").write_text("first\n")
    git(path, "add", "a.txt")
    git(path, "commit", "--quiet", "--message", "Begin")
    (path / "a.txt").write_text("second\n")
