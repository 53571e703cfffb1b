"""Tickets: durable questions to a person, one pending per equal call, each answered and used at most once."""

import json
import sqlite3
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gateway.stores.codec import decode_label, encode_label
from policies.case import Approval
from policies.jsonvalue import canonical
from policies.label import Label
from policies.verdict import Code, Reason


class TicketState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CONSUMED = "consumed"


class Scope(StrEnum):
    ONCE = "once"
    """The receipt and nothing else."""
    TASK = "task"
    """The receipt, and each unproven value for its argument of this tool, for the rest of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    id: str
    task: str
    call_digest: str
    authority: str
    card: dict[str, Any]
    """What the person is shown (`desk/card.py`); JSON."""
    label: Label
    created: float
    expires: float
    state: TicketState = TicketState.PENDING
    scope: Scope = Scope.ONCE
    by: str = ""
    """Who decided and by which credential, such as `control:0` or `console:alice`."""
    comment: str = ""
    version: int = 1
    decided: float | None = None

    @property
    def tool(self) -> str:
        return f"{self.card['server']}.{self.card['tool']}"

    @property
    def asks(self) -> frozenset[Reason]:
        """Why the person was asked."""
        return frozenset(Reason(Code(one["code"]), one["detail"], one["path"]) for one in self.card["asks"])

    @property
    def approval(self) -> Approval:
        return Approval(
            asks=self.asks,
            ticket=self.id,
            call_digest=self.call_digest,
            authority=self.authority,
            label=self.label,
            expires=self.expires,
            by=self.by,
        )


_COLUMNS = (
    'id, task, call_digest, authority, state, card, label, scope, "by", comment, version, created, expires, decided'
)


def open_ticket(db: sqlite3.Connection, ticket: Ticket) -> None:
    db.execute(
        f"INSERT INTO tickets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            ticket.id,
            ticket.task,
            ticket.call_digest,
            ticket.authority,
            ticket.state,
            canonical(ticket.card).decode(),
            encode_label(ticket.label),
            ticket.scope,
            ticket.by,
            ticket.comment,
            ticket.version,
            ticket.created,
            ticket.expires,
            ticket.decided,
        ),
    )


def load(db: sqlite3.Connection, ticket: str) -> Ticket | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM tickets WHERE id = ?", (ticket,)).fetchone()  # noqa: S608
    return None if row is None else _ticket(row)


def open_with(db: sqlite3.Connection, authority: str) -> list[Ticket]:
    """Every question that waits and every yes that is unused, of calls with this effect; oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE authority = ? AND state IN ('pending', 'approved') ORDER BY id",  # noqa: S608
        (authority,),
    )
    return [_ticket(row) for row in rows]


def open_for(db: sqlite3.Connection, call_digest: str) -> list[Ticket]:
    """Every question that waits and every yes that is unused, of equal calls; oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE call_digest = ? AND state IN ('pending', 'approved') ORDER BY id",  # noqa: S608
        (call_digest,),
    )
    return [_ticket(row) for row in rows]


def is_refused(db: sqlite3.Connection, authority: str) -> bool:
    """Whether a person refused a call with this effect."""
    row = db.execute("SELECT 1 FROM tickets WHERE authority = ? AND state = 'denied' LIMIT 1", (authority,)).fetchone()
    return row is not None


def count_pending(db: sqlite3.Connection, task: str) -> int:
    row = db.execute("SELECT count(*) FROM tickets WHERE task = ? AND state = 'pending'", (task,)).fetchone()
    return int(row[0])


def listed(
    db: sqlite3.Connection,
    *,
    state: TicketState | None = None,
    task: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Ticket]:
    """Oldest first; `after` is the last id of the page before."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE id > ? AND (? IS NULL OR state = ?) AND (? IS NULL OR task = ?)"  # noqa: S608
        " ORDER BY id LIMIT ?",
        (after, state, state, task, task, limit),
    )
    return [_ticket(row) for row in rows]


def overdue(db: sqlite3.Connection, now: float) -> list[Ticket]:
    """Pending or approved tickets whose time is over."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE state IN ('pending', 'approved') AND expires <= ?",  # noqa: S608
        (now,),
    )
    return [_ticket(row) for row in rows]


def move(
    db: sqlite3.Connection,
    ticket: Ticket,
    to: TicketState,
    *,
    now: float,
    scope: Scope | None = None,
    by: str | None = None,
    comment: str | None = None,
) -> Ticket | None:
    """The ticket as it stands after the move; None where somebody was faster (its version has moved)."""
    after = replace(
        ticket,
        state=to,
        version=ticket.version + 1,
        decided=now,
        scope=ticket.scope if scope is None else scope,
        by=ticket.by if by is None else by,
        comment=ticket.comment if comment is None else comment,
    )
    moved = db.execute(
        'UPDATE tickets SET state = ?, version = ?, decided = ?, scope = ?, "by" = ?, comment = ?'
        " WHERE id = ? AND version = ? AND state = ?",
        (to, after.version, now, after.scope, after.by, after.comment, ticket.id, ticket.version, ticket.state),
    )
    return after if moved.rowcount == 1 else None


def consume(db: sqlite3.Connection, ticket: str, now: float) -> bool:
    """Use a yes, once; False where it was used, revoked or has expired."""
    used = db.execute(
        "UPDATE tickets SET state = 'consumed', version = version + 1"
        " WHERE id = ? AND state = 'approved' AND expires > ?",
        (ticket, now),
    )
    return used.rowcount == 1


def endorse(db: sqlite3.Connection, ticket: Ticket, values: list[tuple[str, str, str]]) -> None:
    """Keep (path, form, canonical value) for the rest of the task, for this ticket's tool."""
    db.executemany(
        "INSERT OR IGNORE INTO endorsements (task, tool, path, form, value, ticket) VALUES (?, ?, ?, ?, ?, ?)",
        [(ticket.task, ticket.tool, path, form, value, ticket.id) for path, form, value in values],
    )


def endorsements(db: sqlite3.Connection, task: str) -> list[tuple[str, str, str, str]]:
    """(tool, path, form, value) rows of a task; a flow is a row whose path is `flow` and whose value is the class."""
    rows = db.execute("SELECT tool, path, form, value FROM endorsements WHERE task = ?", (task,))
    return [(tool, path, form, value) for tool, path, form, value in rows]


def _ticket(row: tuple[Any, ...]) -> Ticket:
    (ticket, task, call_digest, authority, state, card, label) = row[:7]
    (scope, by, comment, version, created, expires, decided) = row[7:]
    return Ticket(
        id=ticket,
        task=task,
        call_digest=call_digest,
        authority=authority,
        state=TicketState(state),
        card=json.loads(card),
        label=decode_label(label),
        scope=Scope(scope),
        by=by,
        comment=comment,
        version=version,
        created=created,
        expires=expires,
        decided=decided,
    )
