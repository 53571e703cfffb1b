"""A desk whose papers a server may only change in a copy: a gateway with a scribe, and the original folder."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.bootstrap import Running
from gateway.control import Granted
from gateway.options import Access, Mount, ServerOptions
from support.scene import SERVERS, Agent, Said, grant, scene

PACK = """
[tool.write]
effect = "write"
idempotent = true
arguments = { path = { role = "ref" }, text = { role = "body" } }
[tool.link]
effect = "write"
arguments = { path = { role = "ref" }, text = { role = "body" } }
[tool.remove]
effect = "write"
arguments = { path = { role = "ref" } }
[tool.read]
effect = "read"
arguments = { path = { role = "ref" } }
[flow]
"." = ["."]
"""
PATHS = ("a.txt", "notes/b.txt", "out", "evil.txt")
ALLOW = tuple(
    f"scribe.{tool}(path in [{', '.join(f'{path!r}' for path in PATHS)}])".replace("'", '"')
    for tool in ("write", "link", "remove", "read")
)


@dataclass
class Desk:
    """A gateway, a task, its agent, and the papers."""

    gateway: Running
    granted: Granted
    papers: Path

    @property
    def task(self) -> str:
        return self.granted.task.id

    async def does(self, tool: str, path: str, **text: str) -> Said:
        """The scribe does it in the task's copy."""
        return await Agent(self.gateway.url, self.granted.token).call(f"scribe__{tool}", path=path, **text)


def scribe(papers: Path, access: Access = Access.REVIEW, **options: Any) -> ServerOptions:
    """The server, and beside its papers its pack."""
    written = papers.parent / "scribe.toml"
    written.write_text(PACK)
    return ServerOptions(
        name="scribe",
        command=(sys.executable, "-P", "-S", str(SERVERS / "scribe.py"), str(papers)),
        mounts=(Mount(path=papers, access=access), Mount(path=SERVERS)),
        pack=str(written),
        **options,
    )


@asynccontextmanager
async def desk(root: Path, granted: Granted | None = None) -> AsyncIterator[Desk]:
    """A desk in this folder: a fresh task, or one that an earlier gateway there granted."""
    papers = root / "papers"
    if not papers.exists():
        papers.mkdir()
        (papers / "a.txt").write_text("one\ntwo\n")
    async with scene(root / "state", scribe(papers)) as gateway:
        yield Desk(gateway, granted or await grant(gateway, *ALLOW), papers)
