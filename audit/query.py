"""Reading the log: by filter, by page, by action. Over a read-only connection; verifies nothing (`verify.py` does)."""

import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from audit import leaf as leaves

_PARTIAL = frozenset({"action", "ticket"})
"""Names whose index leaves out the empty ones: a query has to say that it does, or the index is not used."""

MOST = 1000
"""Records in one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to look for; everything that is given must hold."""

    task: str | None = None
    agent: str | None = None
    tool: str | None = None
    """`server.tool`, or `server.*`"""
    kind: str | None = None
    verdict: str | None = None
    action: str | None = None
    ticket: str | None = None
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event as it was recorded, and where it stands."""

    index: int
    id: str
    kind: str
    time: float
    task: str
    agent: str
    action: str
    server: str
    tool: str
    verdict: str
    ticket: str
    payload: dict[str, Any] | None
    """None once erased."""
    hash: str
    """The leaf's hash in the tree, in hex."""


def query(connection: sqlite3.Connection, filter: Filter, *, after: int = -1, limit: int = 100) -> list[Record]:
    """A page of what matches, oldest first; the last record's index is the next page's `after`."""
    clauses, values = _where(filter)
    return _select(connection, ["l.idx > ?", *clauses], [after, *values], min(max(limit, 1), MOST))


def latest(connection: sqlite3.Connection, filter: Filter, *, limit: int = 100) -> list[Record]:
    """The last records that match, newest first."""
    clauses, values = _where(filter)
    return _select(connection, ["l.idx >= 0", *clauses], values, min(max(limit, 1), MOST), order="DESC")


def show(connection: sqlite3.Connection, which: str | int) -> Record | None:
    """One event, by its id or its leaf's index."""
    is_index = isinstance(which, int) or which.isdecimal()
    found = _select(connection, ["l.idx = ?"] if is_index else ["l.id = ?"], [which], 1)
    return found[0] if found else None


def why(connection: sqlite3.Connection, which: str) -> list[Record]:
    """Everything recorded of an action and its tickets, in order; named by action, ticket or one of its events."""
    event = show(connection, which)
    start = (event.action or event.ticket) if event else which
    if event is not None and not start:
        return [event]
    actions = {
        start,
        *_distinct(connection, "SELECT DISTINCT action FROM leaves WHERE ticket = ? AND ticket <> ''", start),
    } - {""}
    tickets = {
        start,
        *_distinct(connection, "SELECT DISTINCT ticket FROM leaves WHERE action = ? AND action <> ''", start),
    } - {""}
    by_action = f"(l.action IN ({_marks(actions)}) AND l.action <> '')"
    clause = f"({by_action} OR (l.ticket IN ({_marks(tickets)}) AND l.ticket <> ''))"
    return _select(connection, [clause], [*actions, *tickets], MOST)


def _distinct(connection: sqlite3.Connection, statement: str, value: str) -> list[str]:
    return [found for (found,) in connection.execute(statement, (value,))]


def _marks(values: set[str]) -> str:
    return ", ".join("?" * len(values))


def _where(filter: Filter) -> tuple[list[str], list[object]]:
    clauses: list[str] = []
    values: list[object] = []
    for name in ("task", "agent", "kind", "verdict", "action", "ticket"):
        if (wanted := getattr(filter, name)) is not None:
            clauses.append(f"l.{name} = ?" + (f" AND l.{name} <> ''" if name in _PARTIAL else ""))
            values.append(wanted)
    if filter.tool is not None:
        server, _, tool = filter.tool.partition(".")
        clauses.append("l.server = ?")
        values.append(server)
        if tool not in {"", "*"}:
            clauses.append("l.tool = ?")
            values.append(tool)
    if filter.since is not None:
        clauses.append("l.time >= ?")
        values.append(filter.since)
    if filter.until is not None:
        clauses.append("l.time < ?")
        values.append(filter.until)
    return clauses, values


def _select(
    connection: sqlite3.Connection,
    clauses: list[str],
    values: list[object],
    limit: int,
    *,
    order: Literal["ASC", "DESC"] = "ASC",
) -> list[Record]:
    statement = " ".join(
        [
            "SELECT l.idx, l.id, l.kind, l.time, l.task, l.agent, l.action, l.server, l.tool, l.verdict, l.ticket,",
            "p.body, l.hash FROM leaves l LEFT JOIN payloads p ON p.idx = l.idx WHERE",
            " AND ".join(clauses),
            f"ORDER BY l.idx {order} LIMIT ?",
        ]
    )
    return [_record(row) for row in connection.execute(statement, [*values, limit])]


def _record(row: tuple[Any, ...]) -> Record:
    *columns, payload, digest = row
    named = dict(zip(("index", "id", "kind", "time", *leaves.NAMES), columns, strict=True))
    return Record(**named, payload=None if payload is None else leaves.body(payload), hash=digest.hex())
