"""Values: what results said, and how high each holder's mark has risen."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.stores.codec import decode_label, encode_label
from policies.jsonvalue import JSON, JSONObject
from policies.label import CLEAN, Label

MAX_BODY_BYTES = 262_144
"""A longer result is kept cut, for people; nothing in it proves anything, before a restart or after."""
MAX_PARTS = 4_096
"""Lists and objects of a result that is taken apart for people; one with more is looked through as text."""
MAX_SHOWN = 256
"""How many of a task's results are read back for people, the latest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One result of a task."""

    action: str
    server: str
    tool: str
    whole: bool
    """Whether all of it is here."""
    raw: bytes

    @property
    def body(self) -> JSONObject | None:
        """None where a cap cut it."""
        body: JSONObject | None = json.loads(self.raw) if self.whole else None
        return body

    @property
    def said(self) -> JSON:
        """For looking through it: the body, or as bare text what was cut or has too many parts to take apart."""
        if self.whole and self.raw.count(b"[") + self.raw.count(b"{") <= MAX_PARTS:
            return self.body
        return self.raw.decode(errors="replace")


def remember(
    db: sqlite3.Connection, *, action: str, task: str, server: str, tool: str, time: float, body: bytes, proves: bool
) -> bool:
    """Keep one result's canonical bytes; whether it proves something, now and after a restart.

    `proves`: whether it holds what the task has not seen proven yet. One that is cut proves nothing.
    """
    whole = len(body) <= MAX_BODY_BYTES
    db.execute(
        "INSERT INTO results (action, task, server, tool, time, whole, proves, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (action, task, server, tool, time, whole, whole and proves, body[:MAX_BODY_BYTES]),
    )
    return whole and proves


def remembered(db: sqlite3.Connection, task: str, *, newest_first: bool = False) -> Iterator[Remembered]:
    """The latest of the task's results, in the order in which they came unless asked otherwise."""
    order = "DESC" if newest_first else "ASC"
    latest = "SELECT seq FROM results WHERE task = ? ORDER BY seq DESC LIMIT ?"
    yield from _read(db, f"seq IN ({latest}) ORDER BY seq {order}", (task, MAX_SHOWN))


def proving(db: sqlite3.Connection, task: str) -> Iterator[Remembered]:
    """The results that proved something when they came, in order."""
    yield from _read(db, "task = ? AND proves ORDER BY seq", (task,))


def _read(db: sqlite3.Connection, where: str, values: tuple[str | int, ...]) -> Iterator[Remembered]:
    rows = db.execute(f"SELECT action, server, tool, whole, body FROM results WHERE {where}", values)  # noqa: S608
    for action, server, tool, whole, body in rows:
        yield Remembered(action=action, server=server, tool=tool, whole=bool(whole), raw=body)


def mark_of(db: sqlite3.Connection, holder: str) -> Label:
    row = db.execute("SELECT label FROM marks WHERE holder = ?", (holder,)).fetchone()
    return CLEAN if row is None else decode_label(row[0])


def raise_mark(db: sqlite3.Connection, holder: str, label: Label) -> Label:
    """Join `label`, made coarse, into the holder's mark, and return the mark as it now stands."""
    before = mark_of(db, holder)
    after = before.join(label.coarse())
    if after != before:
        db.execute(
            "INSERT INTO marks (holder, label) VALUES (?, ?) ON CONFLICT (holder) DO UPDATE SET label = excluded.label",
            (holder, encode_label(after)),
        )
    return after
