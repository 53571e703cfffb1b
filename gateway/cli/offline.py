"""The store of a gateway that does not run, for commands that only look."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gateway.cli.client import Unreachable


@contextlib.contextmanager
def reading(state: Path, unreachable: Unreachable | None = None) -> Iterator[sqlite3.Connection]:
    """A read-only connection, one snapshot; nothing else can be done through it.

    Raises:
        Unreachable: there is no store either.
        StoreError: it cannot be read.
    """
    from gateway.stores.database import read_database  # noqa: PLC0415 - SQLAlchemy costs every command 0.1 s

    if unreachable is not None and not database_file(state).is_file():
        raise unreachable
    database = read_database(state)
    try:
        with contextlib.closing(database.reader()) as connection:
            connection.execute("BEGIN")
            yield connection
    finally:
        database.close()


def database_file(state: Path) -> Path:
    """Where the store of this state is."""
    from gateway.stores.database import DATABASE  # noqa: PLC0415 - as above

    return state / DATABASE
