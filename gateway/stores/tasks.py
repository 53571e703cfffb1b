"""Tasks and the root tokens minted for them; a revoked block id ends every token that has it in its chain."""

import sqlite3
from dataclasses import dataclass

from policies.grant import Grant
from policies.grantjson import decode_grant, encode_grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a principal asked for, in the user's words, and what was granted for it."""

    id: str
    principal: str
    agent: str
    text: str
    grant: Grant
    created: float
    version: int = 1
    """Moves with every change to the task's rights."""
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    id: str
    task: str
    agent: str
    holder: str
    revocation: str
    """Revocation id of the root block, in hex."""
    expires: float | None
    created: float


_COLUMNS = 'id, principal, agent, text, "grant", created, version, revoked'


def create(db: sqlite3.Connection, task: Task, token: TokenRow) -> None:
    db.execute(
        f"INSERT INTO tasks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 0)",  # noqa: S608 - constant names
        (task.id, task.principal, task.agent, task.text, encode_grant(task.grant), task.created, task.version),
    )
    db.execute(
        "INSERT INTO tokens (id, task, agent, holder, revocation, expires, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (token.id, token.task, token.agent, token.holder, token.revocation, token.expires, token.created),
    )


def load(db: sqlite3.Connection, task: str) -> Task | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM tasks WHERE id = ?", (task,)).fetchone()  # noqa: S608 - constant names
    return None if row is None else _task(row)


def listed(db: sqlite3.Connection, *, after: str = "", limit: int = 100) -> list[Task]:
    """Newest last; `after` is the last id of the page before."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM tasks WHERE id > ? ORDER BY id LIMIT ?", (after, limit))  # noqa: S608
    return [_task(row) for row in rows]


def tokens_of(db: sqlite3.Connection, task: str) -> list[TokenRow]:
    rows = db.execute(
        "SELECT id, task, agent, holder, revocation, expires, created FROM tokens WHERE task = ? ORDER BY id", (task,)
    )
    return [
        TokenRow(id=i, task=t, agent=a, holder=h, revocation=r, expires=e, created=c) for i, t, a, h, r, e, c in rows
    ]


def task_of_token(db: sqlite3.Connection, token: str) -> str | None:
    row = db.execute("SELECT task FROM tokens WHERE id = ?", (token,)).fetchone()
    return None if row is None else str(row[0])


def revoke_task(db: sqlite3.Connection, task: str) -> bool:
    done = db.execute("UPDATE tasks SET revoked = 1, version = version + 1 WHERE id = ?", (task,))
    return done.rowcount == 1


def revoke_block(db: sqlite3.Connection, revocation: str, time: float) -> None:
    db.execute("INSERT OR IGNORE INTO revocations (id, time) VALUES (?, ?)", (revocation, time))


def revocations(db: sqlite3.Connection) -> frozenset[str]:
    return frozenset(row[0] for row in db.execute("SELECT id FROM revocations"))


def _task(row: tuple[str, str, str, str, str, float, int, int]) -> Task:
    task, principal, agent, text, grant, created, version, revoked = row
    return Task(
        id=task,
        principal=principal,
        agent=agent,
        text=text,
        grant=decode_grant(grant),
        created=created,
        version=version,
        revoked=bool(revoked),
    )
