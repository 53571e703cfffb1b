"""What a tree holds at one path, as a manifest remembers it."""

import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder or symbolic link."""

    path: str
    """Relative to the workspace, steps parted by `/`; bytes that are no UTF-8 as surrogates (PEP 383)."""
    kind: Kind
    mode: int
    """All twelve bits, as found."""
    size: int = 0
    digest: str = ""
    """SHA-256 of a file's content, in hex."""
    target: str = ""
    """Where a link leads, as written."""
    stamp: tuple[int, int] = (0, 0)
    """Inode and time of change, in nanoseconds: while both stand, so does the content."""

    def says_what(self, other: "Entry | None") -> bool:
        """Whether both are the same, permissions aside."""
        return other is not None and (self.kind, self.digest, self.target) == (other.kind, other.digest, other.target)

    def document(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "kind": self.kind.value,
            "mode": self.mode,
            "size": self.size,
            "digest": self.digest,
            "target": self.target,
            "stamp": list(self.stamp),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that is not copied or not applied, and why."""

    path: str
    why: str


def entry_from(document: dict[str, Any]) -> Entry:
    """The entry of its document."""
    inode, changed = document["stamp"]
    return Entry(**{**document, "kind": Kind(document["kind"]), "stamp": (inode, changed)})


def strange(mode: int) -> str:
    """What a file is called that is no file, folder or link; empty where it is one."""
    for test, name in (
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ):
        if test(mode):
            return name
    return ""
