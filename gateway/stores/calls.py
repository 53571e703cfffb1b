"""Calls: one row per intent, from `executing` to what became of it."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.stores.budgets import Reservation
from policies.jsonvalue import canonical


class CallState(StrEnum):
    EXECUTING = "executing"
    OK = "ok"
    ERROR = "error"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    """Sent, and no answer came: equal calls wait until a person settles it."""
    SETTLED_OK = "settled_ok"
    SETTLED_FAILED = "settled_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What the store keeps of an intent."""

    action: str
    task: str
    root: str
    holder: str
    agent: str
    server: str
    tool: str
    authority: str
    state: CallState
    guarded: bool
    """Not a declared read nor idempotent: an equal call may not run beside it."""
    reserved: Sequence[Reservation]
    time: float


_COLUMNS = "action, task, root, holder, agent, server, tool, authority, state, guarded, reserved, time"


def begin(db: sqlite3.Connection, call: Call) -> None:
    db.execute(
        f"INSERT INTO calls ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant names
        (
            call.action,
            call.task,
            call.root,
            call.holder,
            call.agent,
            call.server,
            call.tool,
            call.authority,
            call.state,
            call.guarded,
            canonical(call.reserved).decode(),
            call.time,
        ),
    )


def finish(db: sqlite3.Connection, action: str, state: CallState, *, was: CallState = CallState.EXECUTING) -> bool:
    """Move one call on; False where it is not (any more) in the state it is moved from."""
    done = db.execute("UPDATE calls SET state = ? WHERE action = ? AND state = ?", (state, action, was))
    return done.rowcount == 1


def equal_open(db: sqlite3.Connection, authority: str) -> str | None:
    """An equal call that still executes or whose outcome nobody knows."""
    row = db.execute(
        "SELECT action FROM calls WHERE authority = ? AND state IN ('executing', 'unknown') LIMIT 1", (authority,)
    ).fetchone()
    return None if row is None else str(row[0])


def load(db: sqlite3.Connection, action: str) -> Call | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM calls WHERE action = ?", (action,)).fetchone()  # noqa: S608 - constant names
    return None if row is None else _call(row)


def still_open(db: sqlite3.Connection, state: CallState, task: str | None = None) -> list[Call]:
    """Calls that are executing, or whose outcome is unknown; oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM calls WHERE state IN ('executing', 'unknown') AND state = ?"  # noqa: S608 - constant names
        " AND (? IS NULL OR task = ?) ORDER BY time",
        (state, task, task),
    )
    return [_call(row) for row in rows]


def _call(row: tuple[str, str, str, str, str, str, str, str, str, int, str, float]) -> Call:
    action, task, root, holder, agent, server, tool, authority, state, guarded, reserved, time = row
    return Call(
        action=action,
        task=task,
        root=root,
        holder=holder,
        agent=agent,
        server=server,
        tool=tool,
        authority=authority,
        state=CallState(state),
        guarded=bool(guarded),
        reserved=tuple((name, amount) for name, amount in json.loads(reserved)),
        time=time,
    )
