"""Labels of files: what was written into the operator's folders by servers, and whose data it may hold.

A gateway cannot see which file a server reads. So whatever a server says carries the labels of all labelled files in
its mounts, in every task, after every restart. A label leaves a path only when an operator clears it.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath

from gateway.options import Access, Mount
from gateway.stores.codec import decode_label, encode_label
from policies.label import CLEAN, Label


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLabel:
    """What one server has written at one path."""

    path: str
    """Absolute, without links: a file, or a mount that is written to directly."""
    server: str
    label: Label
    task: str
    """The last one for which it wrote."""
    digest: str
    """Of the content, as it was applied; empty where it is not known."""
    time: float


_COLUMNS = "path, server, label, task, digest, time"


def raise_labels(db: sqlite3.Connection, rows: Iterable[FileLabel]) -> tuple[FileLabel, ...]:
    """Join each label into what its server had written there before; the rows that are on disk now for it."""
    return tuple(raised for row in rows if (raised := _raise(db, row)) is not None)


def _raise(db: sqlite3.Connection, row: FileLabel) -> FileLabel | None:
    before = db.execute(
        "SELECT label, digest FROM file_labels WHERE path = ? AND server = ?", (row.path, row.server)
    ).fetchone()
    label = row.label.coarse()
    if before is not None:
        known = _decoded(before[0])
        label = known.join(label)
        if label.bare() == known.bare() and before[1] == row.digest:
            return None
    db.execute(
        f"INSERT OR REPLACE INTO file_labels ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant names
        (row.path, row.server, encode_label(label), row.task, row.digest, row.time),
    )
    return FileLabel(path=row.path, server=row.server, label=label, task=row.task, digest=row.digest, time=row.time)


@lru_cache(maxsize=256)
def _decoded(label: str) -> Label:
    """The same few labels are compared with at each call that writes."""
    return decode_label(label)


def clear(db: sqlite3.Connection, path: str) -> tuple[FileLabel, ...]:
    """Forget what was written at this path, and beneath it; what that was."""
    found = tuple(row for row in listed(db) if PurePath(row.path).is_relative_to(path))
    for row in found:
        db.execute("DELETE FROM file_labels WHERE path = ? AND server = ?", (row.path, row.server))
    return found


def listed(db: sqlite3.Connection) -> Iterator[FileLabel]:
    for path, server, label, task, digest, time in db.execute(
        f"SELECT {_COLUMNS} FROM file_labels ORDER BY path, server"  # noqa: S608 - constant names
    ):
        yield FileLabel(path=path, server=server, label=decode_label(label), task=task, digest=digest, time=time)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a server's results carry of the files in its mounts."""

    label: Label = CLEAN
    is_foreign: bool = False
    """Whether another server wrote some of it: then nothing that it says proves anything."""


NOTHING = Carried()


@dataclass(slots=True)
class FileLabels:
    """The labels that are on disk, by the servers that they reach. Touched on the event loop alone."""

    mounts: Mapping[str, tuple[Mount, ...]] = field(default_factory=dict)
    """By server."""
    _rows: dict[tuple[str, str], FileLabel] = field(default_factory=dict)
    _carried: dict[str, Carried] = field(default_factory=dict)
    _always: dict[str, Carried] = field(default_factory=dict)
    """What results carry whatever was written: another server may write to what this one sees, unseen, at any time."""
    _roots: dict[str, tuple[str, ...]] = field(init=False)
    _direct: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        real = {name: [(os.path.realpath(one.path), one.access) for one in own] for name, own in self.mounts.items()}
        self._roots = {name: tuple(path for path, _ in own) for name, own in real.items()}
        self._direct = {
            name: tuple(path for path, access in own if access is Access.DIRECT) for name, own in real.items()
        }

    def read(self, reader: sqlite3.Connection, worst: Callable[[str], Label] = lambda _: CLEAN) -> None:
        """Take in what is on disk.

        Args:
            worst: what anything that a server says may be.
        """
        for writer, paths in self._direct.items():
            for server in {server for path in paths for server in self._reached(path)} - {writer}:
                label = self._always.get(server, NOTHING).label.join(worst(writer))
                self._always[server] = Carried(label, is_foreign=True)
        self._rows = {(row.path, row.server): row for row in listed(reader)}
        self._count()

    def carried(self, server: str) -> Carried:
        """What a result of this server carries; the same object while nothing is labelled."""
        return self._carried.get(server, NOTHING)

    def direct(self, server: str, label: Label, task: str, now: float) -> tuple[FileLabel, ...]:
        """What a call with this label may leave in the folders that its server writes to directly. Pure."""
        if not self._direct.get(server) or label.bare() == CLEAN:
            return ()
        return tuple(
            FileLabel(path=path, server=server, label=label, task=task, digest="", time=now)
            for path in self._direct[server]
        )

    def raised(self, rows: Iterable[FileLabel]) -> None:
        """Take in rows that have just become durable."""
        for row in rows:
            known = self._rows.get((row.path, row.server))
            self._rows[row.path, row.server] = row
            if known is None or known.label != row.label:
                for server in self._reached(row.path):
                    self._carried[server] = _with(self.carried(server), row, server)

    def cleared(self, rows: Iterable[FileLabel]) -> None:
        """Forget rows that are gone from the disk."""
        for row in rows:
            self._rows.pop((row.path, row.server), None)
        self._count()

    def _count(self) -> None:
        self._carried = dict(self._always)
        for row in self._rows.values():
            for server in self._reached(row.path):
                self._carried[server] = _with(self.carried(server), row, server)

    def _reached(self, path: str) -> Iterator[str]:
        """The servers that see this path, or something beneath it."""
        written = PurePath(path)
        for server, roots in self._roots.items():
            if any(written.is_relative_to(root) or PurePath(root).is_relative_to(written) for root in roots):
                yield server


def _with(carried: Carried, row: FileLabel, reader: str) -> Carried:
    return Carried(carried.label.join(row.label), carried.is_foreign or row.server != reader)
