"""Values: what results said, and how high each holder's mark has risen."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.stores.codec import decode_label, encode_label
from policies.jsonvalue import JSONObject
from policies.label import CLEAN, Label

MAX_BODY_BYTES = 262_144
"""A longer result is kept cut, for people; nothing in it proves anything, before a restart or after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One result of a task."""

    action: str
    server: str
    tool: str
    body: JSONObject | None
    """None where a cap cut it."""
    text: str


def remember(
    db: sqlite3.Connection, *, action: str, task: str, server: str, tool: str, time: float, body: bytes
) -> bool:
    """Keep one result's canonical bytes; whether all of them, so that it may prove something."""
    whole = len(body) <= MAX_BODY_BYTES
    db.execute(
        "INSERT INTO results (action, task, server, tool, time, body, whole) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (action, task, server, tool, time, body[:MAX_BODY_BYTES], whole),
    )
    return whole


def remembered(db: sqlite3.Connection, task: str, *, newest_first: bool = False) -> Iterator[Remembered]:
    """The task's results, in the order in which they came unless asked otherwise."""
    order = "DESC" if newest_first else "ASC"
    rows = db.execute(
        f"SELECT action, server, tool, body, whole FROM results WHERE task = ? ORDER BY time {order}",  # noqa: S608
        (task,),
    )
    for action, server, tool, body, whole in rows:
        text = body.decode(errors="replace")
        yield Remembered(action=action, server=server, tool=tool, body=json.loads(body) if whole else None, text=text)


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
