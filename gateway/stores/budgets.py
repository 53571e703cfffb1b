"""Budgets: reserved inside the commit, given back when provably nothing was sent."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Reservation: TypeAlias = tuple[str, int]
"""(budget name, amount): `calls` in calls, `spend:EUR` in minor units."""


def open_budgets(db: sqlite3.Connection, root: str, most: Mapping[str, int]) -> None:
    db.executemany(
        "INSERT INTO budgets (root, name, used, most) VALUES (?, ?, 0, ?)",
        [(root, name, amount) for name, amount in most.items()],
    )


def reserve(db: sqlite3.Connection, root: str, wanted: Iterable[Reservation]) -> str | None:
    """Take every amount or say which budget would be overdrawn (the caller then rolls its unit back)."""
    for name, amount in wanted:
        taken = db.execute(
            "UPDATE budgets SET used = used + ? WHERE root = ? AND name = ? AND used + ? <= most",
            (amount, root, name, amount),
        )
        if taken.rowcount != 1:
            return name
    return None


def give_back(db: sqlite3.Connection, root: str, reserved: Iterable[Reservation]) -> None:
    db.executemany(
        "UPDATE budgets SET used = used - ? WHERE root = ? AND name = ?",
        [(amount, root, name) for name, amount in reserved],
    )


def left(db: sqlite3.Connection, root: str) -> dict[str, int]:
    return dict(db.execute("SELECT name, most - used FROM budgets WHERE root = ?", (root,)).fetchall())
