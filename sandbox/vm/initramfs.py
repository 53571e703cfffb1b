"""A file system for a kernel to start from: an archive in cpio's "newc" format, in memory.

The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The same entries give the same
bytes, so that the archive's digest says what is in it.
"""

import gzip
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_END: Final = "TRAILER!!!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or a folder, root's."""

    path: str
    """Without a leading slash; folders come before what lies in them."""
    mode: int
    content: bytes = b""


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path=path, mode=stat.S_IFDIR | mode)


def file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(path=path, mode=stat.S_IFREG | mode, content=content)


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive, gzipped."""
    packed = [_pack(number, entry) for number, entry in enumerate(entries, 1)]
    packed.append(_pack(0, Entry(path=_END, mode=0)))
    return gzip.compress(b"".join(packed), compresslevel=6, mtime=0)


def _pack(number: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
