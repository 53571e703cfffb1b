"""Where the copies are, `TASK/SERVER/N`, and what a server is shown of them. Blocking: for threads."""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from gateway.options import Access, ServerOptions
from gateway.options import Mount as Wanted
from sandbox.bubblewrap.driver import SANDBOX_UID
from sandbox.errors import SandboxError
from sandbox.spec import Mount
from sandbox.workspace import Staged, load, stage

_STEP = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A task's id or a server's name, as a step of our paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy and whose it is."""

    task: str
    server: str
    staged: Staged


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """All copies of one gateway."""

    folder: Path
    _staging: dict[tuple[str, str], threading.Lock] = field(default_factory=dict)
    """One start at a time makes the copies of a task's server, also where it was called off and its thread goes on."""

    def mounts(self, server: ServerOptions, task: str) -> tuple[Mount, ...]:
        """The server's mounts for a task: each `rw` one is a copy, made when it is first asked for.

        Raises:
            SandboxError: a copy cannot be made.
        """
        _check_apart(server.mounts)
        owner = _owner(server.mounts) if os.geteuid() == 0 else None
        with self._staging.setdefault((task, server.name), threading.Lock()):
            return tuple(
                Mount(
                    source=str(self._copy(task, server.name, mount.path, owner)), target=str(mount.path), writable=True
                )
                if mount.access is Access.REVIEW
                else as_it_is(mount)
                for mount in server.mounts
            )

    def found(self, task: str, server: str | None = None) -> list[Copy]:
        """Every copy of a task, or of one server of it."""
        if not _STEP.fullmatch(task):
            return []
        return [
            Copy(task=task, server=one.name, staged=staged)
            for one in _folders(self.folder / task)
            if server in (None, one.name)
            for folder in _folders(one)
            if (staged := load(folder)) is not None
        ]

    def tasks(self) -> list[str]:
        return [folder.name for folder in _folders(self.folder)]

    def _copy(self, task: str, server: str, path: Path, owner: tuple[int, int] | None) -> Path:
        """The copy that was made for this path, or a new one; its place is none that the settings choose."""
        real = Path(os.path.realpath(path))
        if not (_STEP.fullmatch(task) and _STEP.fullmatch(server)):
            raise SandboxError("workspace", f"{task!r} is no task's id", "Grant one.")
        for number in count():  # pragma: no branch - ends at the first place that is free
            folder = self.folder / task / server / str(number)
            staged = load(folder) or stage(real, folder, owner)
            if staged.source == real:
                return staged.mount
        raise AssertionError("unreachable: numbers do not end")


def as_it_is(mount: Wanted) -> Mount:
    """The path itself: written to only where that was said to be direct."""
    return Mount(source=str(mount.path), target=str(mount.path), writable=mount.access is Access.DIRECT)


def _check_apart(mounts: Sequence[Wanted]) -> None:
    """A mount inside a copy could be led astray by a link that its server puts there.

    Raises:
        SandboxError: one lies in another that is a copy.
    """
    for outer in (mount.path for mount in mounts if mount.access is Access.REVIEW):
        for inner in (mount.path for mount in mounts):
            if outer in inner.parents:
                what = f"{inner} lies in {outer}, whose copy the sandbox writes to: it could put a link there"
                raise SandboxError("mount", what, "Mount only the outer one, or move the inner one out.")


def _owner(mounts: Sequence[Wanted]) -> tuple[int, int]:
    """As root: whom a copy is given to: the one user besides root whose folders are written to directly, or nobody."""
    direct = (os.stat(mount.path) for mount in mounts if mount.access is Access.DIRECT and mount.path.exists())
    owners = {(found.st_uid, found.st_gid) for found in direct if found.st_uid != 0}
    return owners.pop() if len(owners) == 1 else (SANDBOX_UID, SANDBOX_UID)


def _folders(folder: Path) -> Iterator[Path]:
    """The folders in it that are somebody's, in order; what is being made or removed starts with a dot."""
    if folder.is_dir():
        yield from sorted(one for one in folder.iterdir() if not one.name.startswith("."))
