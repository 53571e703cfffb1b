"""Staging: the copy that a server gets in place of a folder or file, and the manifest of what it was a copy of."""

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.errors import SandboxError
from sandbox.workspace.entry import Entry, Kind, LeftOut, entry_from, strange
from sandbox.workspace.removal import remove_tree
from sandbox.workspace.tree import (
    MAX_BYTES,
    NARROWER,
    Level,
    copied,
    digest_of,
    joined,
    open_file,
    opened,
    stamp_of,
    walk,
    within,
)

MANIFEST: Final = "manifest.json"
TREE: Final = "tree"
RESERVE_BYTES: Final = 256 << 20
"""What a copy leaves free on its disk: the gateway's own records may be on it."""

_FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): the blocks are shared until one side is written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A copy as it was made, or last brought up to date by an apply."""

    folder: Path
    """Where copy and manifest are."""
    source: Path
    """What it is a copy of; no link leads there."""
    name: str
    """Of a single file; empty: the source is a folder."""
    entries: Mapping[str, Entry]
    skipped: tuple[LeftOut, ...] = ()

    @property
    def copy(self) -> Path:
        """The folder whose entries are compared."""
        return self.folder / TREE

    @property
    def original(self) -> Path:
        """The folder that they came from."""
        return self.source.parent if self.name else self.source

    @property
    def mount(self) -> Path:
        """What a sandbox is shown."""
        return self.copy / self.name if self.name else self.copy


def stage(source: Path, folder: Path, owner: tuple[int, int] | None = None) -> Staged:
    """Copy `source` to a new `folder`: all of it, or nothing is left.

    Links stay links, hard links become files of their own, sockets, pipes and devices are named and left out.

    Args:
        owner: uid and gid that the copy is given to; None: ours.

    Raises:
        SandboxError: it is too big, the disk has no room, or it cannot be read at all.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_tree(part)
        part.mkdir(mode=0o700)
        staged = _staged(Path(os.path.realpath(source)), part, owner)
        write_manifest(staged)
        os.rename(part, folder)
    except BaseException as failed:
        with suppress(OSError):
            remove_tree(part)
        if isinstance(failed, OSError):
            raise _explained(source, failed) from failed
        raise
    return Staged(folder=folder, source=staged.source, name=staged.name, entries=staged.entries, skipped=staged.skipped)


def load(folder: Path) -> Staged | None:
    """What was staged there; None: nothing was."""
    try:
        document = json.loads((folder / MANIFEST).read_text("ascii"))
    except FileNotFoundError:
        return None
    return Staged(
        folder=folder,
        source=Path(document["source"]),
        name=document["name"],
        entries={one["path"]: entry_from(one) for one in document["entries"]},
        skipped=tuple(LeftOut(**one) for one in document["skipped"]),
    )


def drop(folder: Path) -> None:
    """The copy and all that is known of it are gone; a server that still writes there writes to nowhere.

    Raises:
        SandboxError: something of it cannot be removed.
    """
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.gone")
    try:
        with suppress(FileNotFoundError):
            os.rename(folder, gone)
        remove_tree(gone)
    except OSError as refused:
        raise SandboxError(
            "workspace", f"{gone} cannot be removed: {refused.strerror}", "Remove it yourself."
        ) from None


def write_manifest(staged: Staged) -> None:
    """Put what the copy is compared with on disk, whole or not at all."""
    document = {
        "source": str(staged.source),
        "name": staged.name,
        "entries": [entry.document() for entry in staged.entries.values()],
        "skipped": [{"path": one.path, "why": one.why} for one in staged.skipped],
    }
    write_whole(staged.folder / MANIFEST, document)


def write_whole(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON document that is there whole after a crash, or as it was."""
    beside = path.with_suffix(".new")
    with open(beside, "w", encoding="ascii") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    with opened(path.parent) as folder:
        os.fsync(folder)


# ---- copying -------------------------------------------------------------------------------------------------------


def _staged(source: Path, folder: Path, owner: tuple[int, int] | None) -> Staged:
    tree = folder / TREE
    tree.mkdir(mode=0o700)
    name = "" if source.is_dir() else source.name
    with opened(source.parent if name else source) as original, opened(tree) as copy:
        if name:
            found = os.stat(name, dir_fd=original, follow_symlinks=False)
            if why := strange(found.st_mode):
                raise SandboxError("workspace", f"{source} is {why}", "Mount a file or a folder.")
            _check_room(source, found.st_size, folder)
            entry = _copy_file(original, copy, name, name, owner)
            return Staged(folder=folder, source=source, name=name, entries={name: entry})
        _check_room(source, _total(original), folder)
        entries, skipped = _copy_tree(original, copy, owner)
    return Staged(folder=folder, source=source, name="", entries=entries, skipped=skipped)


def _copy_tree(original: int, copy: int, owner: tuple[int, int] | None) -> tuple[dict[str, Entry], tuple[LeftOut, ...]]:
    entries: dict[str, Entry] = {}
    skipped: list[LeftOut] = []
    for level in walk(original):
        if isinstance(level, LeftOut):
            skipped.append(level)
            continue
        with within(copy, level.path) as beside:
            for name, found in level.children:
                path = joined(level.path, name)
                try:
                    if why := strange(found.st_mode):
                        skipped.append(LeftOut(path=path, why=f"it is {why}"))
                    else:
                        entries[path] = _copied(level, name, found, beside, owner)
                except FileNotFoundError:
                    continue
                except PermissionError as refused:
                    skipped.append(LeftOut(path=path, why=f"it cannot be read: {refused.strerror}"))
    for path in reversed([path for path, entry in entries.items() if entry.kind is Kind.FOLDER]):
        with within(copy, path) as folder:
            _hand_over(folder, entries[path].mode & 0o777, owner)
    _hand_over(copy, (os.fstat(original).st_mode & 0o777) | 0o700, owner)
    return entries, tuple(skipped)


def _copied(level: Level, name: str, found: os.stat_result, copy: int, owner: tuple[int, int] | None) -> Entry:
    path = joined(level.path, name)
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(name, 0o700, dir_fd=copy)  # its own permissions come last: they may forbid to fill it
        return Entry(path=path, kind=Kind.FOLDER, mode=stat.S_IMODE(found.st_mode) & 0o777)
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(name, dir_fd=level.descriptor)
        os.symlink(target, name, dir_fd=copy)
        if owner is not None:
            os.chown(name, *owner, dir_fd=copy, follow_symlinks=False)
        return Entry(path=path, kind=Kind.LINK, mode=0o777, target=target)
    return _copy_file(level.descriptor, copy, name, path, owner)


def _copy_file(original: int, copy: int, name: str, path: str, owner: tuple[int, int] | None) -> Entry:
    with open_file(original, name) as source:
        found = os.fstat(source)
        target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=copy)
        try:
            size, digest = _content(source, target, path)
            mode = stat.S_IMODE(found.st_mode) & 0o777
            _hand_over(target, mode, owner)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            stamp = stamp_of(os.fstat(target))
        finally:
            os.close(target)
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=size, digest=digest, stamp=stamp)


def _content(source: int, target: int, path: str) -> tuple[int, str]:
    """Size and digest of what the copy holds: shared blocks where the file system can, else bytes."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        found = copied(source, target)
    else:
        digest = digest_of(target, MAX_BYTES)
        found = None if digest is None else (os.fstat(target).st_size, digest)
    if found is None:
        raise SandboxError("workspace", f"{path} grows past {MAX_BYTES >> 30} GB while it is copied", NARROWER)
    return found


def _hand_over(descriptor: int, mode: int, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode)


def _total(original: int) -> int:
    """Bytes of all files.

    Raises:
        SandboxError: there are too many, and of folders.
    """
    levels = (level for level in walk(original) if isinstance(level, Level))
    return sum(found.st_size for level in levels for _, found in level.children if stat.S_ISREG(found.st_mode))


def _check_room(source: Path, wanted_bytes: int, folder: Path) -> None:
    if wanted_bytes > MAX_BYTES:
        what = f"{source} holds {wanted_bytes / (1 << 30):.1f} GB, and a copy has at most {MAX_BYTES >> 30}"
        raise SandboxError("workspace", what, NARROWER)
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < wanted_bytes + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _explained(source: Path, failed: OSError) -> SandboxError:
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "Free some space where the gateway's state is, or mount a narrower folder."
        return SandboxError("workspace", f"there is no room for a copy of {source}", mend)
    return SandboxError("workspace", f"{source} cannot be copied: {failed.strerror}", NARROWER)
