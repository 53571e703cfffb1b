"""Going through a tree that somebody else may be changing: by descriptors, never through a link, within bounds."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sandbox.errors import SandboxError
from sandbox.workspace.entry import Entry, Kind, LeftOut, strange

MAX_ENTRIES: Final = 50_000
"""Files, folders and links of one workspace."""
MAX_BYTES: Final = 2 << 30
"""Bytes of its files together."""
MAX_DEPTH: Final = 64
"""Folders inside each other."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
NARROWER: Final = "Mount a narrower folder."


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One folder and what is in it. The descriptor is open until the next level is asked for."""

    path: str
    descriptor: int
    children: tuple[tuple[str, os.stat_result], ...]


def walk(root: int, *, most: int = MAX_ENTRIES) -> Iterator[Level | LeftOut]:
    """Every folder beneath `root`, each before those in it, in order; what cannot be entered is named instead.

    Raises:
        SandboxError: it holds more than `most`.
    """
    device, left, todo = os.fstat(root).st_dev, most, [""]
    while todo:
        path = todo.pop()
        try:
            descriptor = open_folder(root, path)
        except FileNotFoundError:
            continue
        except OSError as refused:
            yield LeftOut(path=path, why=f"it cannot be opened: {refused.strerror}")
            continue
        try:
            children = _children(descriptor, left)
            left -= len(children)
            yield Level(path=path, descriptor=descriptor, children=children)
        finally:
            os.close(descriptor)
        for inner, found in reversed([(joined(path, name), found) for name, found in children]):
            if not stat.S_ISDIR(found.st_mode):
                continue
            if found.st_dev != device:
                yield LeftOut(path=inner, why="another file system is mounted there")
            elif inner.count("/") >= MAX_DEPTH:
                yield LeftOut(path=inner, why=f"it is more than {MAX_DEPTH} folders deep")
            else:
                todo.append(inner)


def _children(descriptor: int, most: int) -> tuple[tuple[str, os.stat_result], ...]:
    found: list[tuple[str, os.stat_result]] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if len(found) >= most:
                raise SandboxError("workspace", f"there are more than {MAX_ENTRIES:,} files and folders", NARROWER)
            try:
                found.append((entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    return tuple(sorted(found, key=lambda child: child[0]))


def look(root: int, path: str, *, limit_bytes: int = MAX_BYTES, known: Entry | None = None) -> Entry | LeftOut | None:
    """What stands at `path` right now; None: nothing does. `known` spares the reading of what was not touched since."""
    try:
        with folder_of(root, path) as (parent, name):
            return entry_of(parent, name, path, limit_bytes=limit_bytes, known=known)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as refused:
        return LeftOut(path=path, why=f"it cannot be reached: {refused.strerror}")


def entry_of(
    parent: int, name: str, path: str, *, limit_bytes: int = MAX_BYTES, known: Entry | None = None
) -> Entry | LeftOut | None:
    """What `name` in the folder `parent` is."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if why := strange(found.st_mode):
            return LeftOut(path=path, why=f"it is {why}")
        if stat.S_ISDIR(found.st_mode):
            return Entry(path=path, kind=Kind.FOLDER, mode=stat.S_IMODE(found.st_mode))
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(name, dir_fd=parent)
            return Entry(path=path, kind=Kind.LINK, mode=0o777, target=target)
        return _file(parent, name, path, limit_bytes=limit_bytes, known=known)
    except FileNotFoundError:
        return None
    except OSError as refused:
        return LeftOut(path=path, why=f"it cannot be read: {refused.strerror}")


def _file(parent: int, name: str, path: str, *, limit_bytes: int, known: Entry | None) -> Entry | LeftOut:
    with open_file(parent, name) as descriptor:
        found = os.fstat(descriptor)  # before it is read: what is written meanwhile moves the stamp
        stamp = stamp_of(found)
        if known is not None and known.kind is Kind.FILE and (known.stamp, known.size) == (stamp, found.st_size):
            digest: str | None = known.digest
        else:
            digest = digest_of(descriptor, limit_bytes) if found.st_size <= limit_bytes else None
    if digest is None:
        return LeftOut(path=path, why="it is too big to be looked at")
    mode = stat.S_IMODE(found.st_mode)
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=found.st_size, digest=digest, stamp=stamp)


def digest_of(descriptor: int, limit_bytes: int) -> str | None:
    """SHA-256 of what is to be read; None past the limit: it may grow while it is read."""
    digest, room = hashlib.sha256(), limit_bytes
    while part := os.read(descriptor, _CHUNK):
        room -= len(part)
        if room < 0:
            return None
        digest.update(part)
    return digest.hexdigest()


def copied(source: int, target: int, limit_bytes: int = MAX_BYTES) -> tuple[int, str] | None:
    """Copy what is to be read; (size, SHA-256) of exactly what was written. None past the limit."""
    digest, size = hashlib.sha256(), 0
    while part := os.read(source, _CHUNK):
        size += len(part)
        if size > limit_bytes:
            return None
        digest.update(part)
        while part:
            part = part[os.write(target, part) :]
    return size, digest.hexdigest()


@contextmanager
def open_file(parent: int, name: str) -> Iterator[int]:
    """A regular file for reading. What it is, is known before it is opened: no pipe waits, no device acts.

    Raises:
        OSError: it is something else by now, or may not be read.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is no file any more")
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder(root: int, path: str) -> int:
    """A descriptor of a folder beneath `root`; no step of the way is a link.

    Raises:
        OSError: a step is missing, or is no folder.
    """
    here = os.open(".", _FOLDER, dir_fd=root)
    for step in path.split("/") if path else ():
        try:
            inner = os.open(step, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = inner
    return here


@contextmanager
def within(root: int, path: str) -> Iterator[int]:
    """`open_folder`, closed at the end."""
    descriptor = open_folder(root, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder_of(root: int, path: str) -> Iterator[tuple[int, str]]:
    """The folder that holds `path`, and its name there; raises as `open_folder` does."""
    folder, _, name = path.rpartition("/")
    with within(root, folder) as descriptor:
        yield descriptor, name


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[int]:
    """A folder of ours by its whole path."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def stamp_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_ctime_ns
