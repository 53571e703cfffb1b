"""Snapshots on disk: sealed files in one folder for each owner, replaced whole or not at all.

`FOLDER/HMAC of the owner/ID.snapshot`, for this user's eyes only. Every call touches the disk and may wait for it: not
for an event loop's own thread.
"""

import hmac
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from typing import Final

from llmcore.errors import SnapshotError
from llmcore.seal import LONGEST_HEAD, owner_of, seal, unseal

_ENDING: Final = ".snapshot"
_HALF_WRITTEN: Final = ".part"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""No dot and no slash: an id cannot leave its folder, nor name a half-written file."""
_APART: Final = b"pratique llmcore snapshot folder\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One snapshot of an owner."""

    id: str
    saved: float
    """Unix seconds."""
    size_bytes: int
    """As it lies on disk, sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStore:
    """One process at a time has the folder; its threads may share the store. Of one id the last write stays."""

    folder: Path
    key: bytes = field(repr=False)
    most_per_owner: int = 64
    most_bytes: int = 4 << 30
    """Of all owners together."""

    def __post_init__(self) -> None:
        """Make the folder, and remove what a crash left half written.

        Raises:
            SnapshotError: it cannot be used.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in self.folder.glob(f"*/*{_HALF_WRITTEN}"):
                part.unlink()
        except OSError as error:
            raise SnapshotError(f"{self.folder} cannot keep snapshots: {error.strerror}") from error

    def save(self, owner: str, id: str, body: bytes) -> None:
        """Keep it under this id, in the place of what was there.

        Raises:
            SnapshotError: the id is none, the owner or the disk has no room for it.
        """
        path = self._path(owner, id)
        sealed = seal(self.key, body, owner, id)
        self._require_room(path, len(sealed))
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_whole(path, sealed)
        except OSError as error:
            raise SnapshotError(f"the snapshot {id} could not be written: {error.strerror}") from error

    def load(self, owner: str, id: str) -> bytes:
        """The body that this owner saved under this id.

        Raises:
            SnapshotError: there is none, or it is not what was written.
        """
        path = self._path(owner, id)
        try:
            return unseal(self.key, path.read_bytes(), owner, id)
        except FileNotFoundError:
            raise SnapshotError(f"there is no snapshot {id}") from None
        except OSError as error:
            raise SnapshotError(f"the snapshot {id} could not be read: {error.strerror}") from error

    def delete(self, owner: str, id: str) -> bool:
        """Whether there was one."""
        try:
            self._path(owner, id).unlink()
        except FileNotFoundError:
            return False
        return True

    def list(self, owner: str) -> list[Kept]:
        """The owner's, the latest first."""
        return sorted(_kept(self._folder(owner)), key=lambda kept: (-kept.saved, kept.id))

    def everyones(self) -> Iterator[tuple[str, Kept]]:
        """Of all owners, in no order, for operators. What is no snapshot is passed over; the seal is for `load`."""
        for folder in self.folder.iterdir():
            for kept in _kept(folder):
                with suppress(SnapshotError, FileNotFoundError):
                    yield _owner_of(folder / f"{kept.id}{_ENDING}"), kept

    def _require_room(self, path: Path, size_bytes: int) -> None:
        """Nobody's snapshot is thrown away for another's: what finds no room is refused."""
        mine = [kept for kept in _kept(path.parent) if kept.id != path.stem]
        if len(mine) >= self.most_per_owner:
            raise SnapshotError(f"{len(mine)} snapshots are kept for you already: resume or delete one")
        others = [kept for folder in self.folder.iterdir() if folder != path.parent for kept in _kept(folder)]
        used = sum(kept.size_bytes for kept in [*mine, *others])
        if used + size_bytes > self.most_bytes:
            raise SnapshotError(f"snapshots may take {self.most_bytes} bytes, and {used} of them are taken")

    def _folder(self, owner: str) -> Path:
        return self.folder / hmac.digest(self.key, _APART + owner.encode(), "sha256").hex()[:32]

    def _path(self, owner: str, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise SnapshotError("a snapshot's id is 1 to 128 letters, digits, _ and -, a letter or digit first")
        return self._folder(owner) / f"{id}{_ENDING}"


def _kept(folder: Path) -> list[Kept]:
    kept = []
    for path in folder.glob(f"*{_ENDING}"):
        with suppress(FileNotFoundError):  # deleted meanwhile, by another thread
            found = path.stat()
            kept.append(Kept(id=path.stem, saved=found.st_mtime, size_bytes=found.st_size))
    return kept


def _owner_of(path: Path) -> str:
    with path.open("rb") as file:
        return owner_of(file.read(LONGEST_HEAD))


def _write_whole(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one, a crash leaves one of them."""
    part = path.with_suffix(f".{get_ident()}{_HALF_WRITTEN}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
