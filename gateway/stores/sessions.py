"""Legacy MCP sessions on disk, so that a restarted gateway still knows them. Transport only, never authority."""

import json
import sqlite3
from dataclasses import dataclass

from gateway.ports import Done, Ledger, Unit
from policies.jsonvalue import JSONObject, canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a legacy client and its edge agreed on."""

    id: str
    owner: str
    """`holder|task|root|route`: whoever presents the id must be this."""
    body: JSONObject
    """The edge's own: protocol version, client info and capabilities."""
    touched: float
    """Unix seconds of its last use; how often that is written is the edge's choice."""


def save(session: Session) -> Unit[None]:
    """Write it, in place of what had its id."""
    body = canonical(session.body).decode()

    def unit(connection: sqlite3.Connection) -> Done[None]:
        connection.execute(
            "INSERT OR REPLACE INTO sessions (id, owner, body, touched) VALUES (?, ?, ?, ?)",
            (session.id, session.owner, body, session.touched),
        )
        return Done(value=None)

    return unit


def touch(session_id: str, now: float) -> Unit[bool]:
    """Move its last use forward; False: it is not there (any more)."""

    def unit(connection: sqlite3.Connection) -> Done[bool]:
        moved = connection.execute("UPDATE sessions SET touched = max(touched, ?) WHERE id = ?", (now, session_id))
        return Done(value=moved.rowcount == 1)

    return unit


def delete(session_id: str) -> Unit[bool]:
    """End it; False: it was not there."""

    def unit(connection: sqlite3.Connection) -> Done[bool]:
        gone = connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
        return Done(value=gone.rowcount == 1)

    return unit


def expire(before: float) -> Unit[int]:
    """End those last used before a time; how many there were."""

    def unit(connection: sqlite3.Connection) -> Done[int]:
        gone = connection.execute("DELETE FROM sessions WHERE touched < ?", (before,))
        return Done(value=gone.rowcount)

    return unit


def load(connection: sqlite3.Connection, session_id: str) -> Session | None:
    """The session of this id, whoever its owner: the edge compares."""
    row = connection.execute("SELECT id, owner, body, touched FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        return None
    return Session(id=row[0], owner=row[1], body=json.loads(row[2]), touched=row[3])


@dataclass(frozen=True, slots=True)
class LedgerSessions:
    """Sessions as an edge keeps them: every change durable when it returns."""

    ledger: Ledger
    reader: sqlite3.Connection

    async def save(self, session: Session) -> None:
        await self.ledger.run(save(session))

    async def load(self, session_id: str) -> Session | None:
        return load(self.reader, session_id)

    async def touch(self, session_id: str, now: float) -> None:
        await self.ledger.run(touch(session_id, now))

    async def delete(self, session_id: str) -> None:
        await self.ledger.run(delete(session_id))
