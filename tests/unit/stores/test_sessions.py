"""Sessions on disk."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.stores import sessions
from gateway.stores.database import open_database
from gateway.stores.sessions import Session


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    database = open_database(tmp_path)
    connection = database.writer()
    yield connection
    connection.close()
    database.close()


def session(name: str = "ses_1", *, touched: float = 100.0) -> Session:
    return Session(id=name, owner="agt_1|task_1|tok_1|/mcp", body={"protocol": "2025-06-18"}, touched=touched)


def test_a_saved_session_comes_back_as_it_was(connection: sqlite3.Connection) -> None:
    sessions.save(session())(connection)
    assert sessions.load(connection, "ses_1") == session()
    assert sessions.load(connection, "ses_2") is None


def test_saving_again_replaces(connection: sqlite3.Connection) -> None:
    sessions.save(session())(connection)
    sessions.save(session(touched=200.0))(connection)
    assert sessions.load(connection, "ses_1") == session(touched=200.0)


def test_a_touch_never_makes_a_session_older_or_a_new_one(connection: sqlite3.Connection) -> None:
    sessions.save(session())(connection)
    assert sessions.touch("ses_1", 150.0)(connection).value
    assert sessions.touch("ses_1", 120.0)(connection).value
    assert sessions.load(connection, "ses_1") == session(touched=150.0)
    assert not sessions.touch("ses_2", 150.0)(connection).value
    assert sessions.load(connection, "ses_2") is None


def test_a_deleted_session_is_gone(connection: sqlite3.Connection) -> None:
    sessions.save(session())(connection)
    assert sessions.delete("ses_1")(connection).value
    assert sessions.load(connection, "ses_1") is None
    assert not sessions.delete("ses_1")(connection).value


def test_only_what_was_not_used_since_expires(connection: sqlite3.Connection) -> None:
    sessions.save(session("ses_old", touched=99.0))(connection)
    sessions.save(session("ses_new", touched=100.0))(connection)
    assert sessions.expire(100.0)(connection).value == 1
    assert sessions.load(connection, "ses_old") is None
    assert sessions.load(connection, "ses_new") is not None
