"""A log to write to, and one that is written and closed, to be tampered with."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from audit.event import Event
from audit.keys import Signer, generate
from audit.log import AuditLog
from audit.schema import metadata

ORIGIN = "pratique.test/log"


@dataclass(slots=True)
class Book:
    """A database with a log in it, and the writer that owns both."""

    connection: sqlite3.Connection
    signer: Signer
    log: AuditLog

    def write(self, *events: Event, now: float | None = None) -> None:
        """One transaction, signed where `now` is given."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.log.append(self.connection, events)
        if now is not None:
            self.log.checkpoint(self.connection, now)
        self.connection.execute("COMMIT")
        self.log.committed()

    def reopened(self) -> AuditLog:
        """Another writer that starts on the same database with the same key."""
        log = AuditLog(ORIGIN, self.signer)
        log.rebuild(self.connection)
        return log


class Sealed:
    """A finished log: its database as bytes, the key that it verifies under, and where its checkpoints are."""

    def __init__(self, image: bytes, vkey: str, heads: tuple[int, ...]) -> None:
        self.image = image
        self.vkey = vkey
        self.size = heads[-1]
        self.heads = heads

    def opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.deserialize(self.image)
        connection.execute("PRAGMA journal_mode = MEMORY")
        return connection


def event(number: int, kind: str = "decision", **more: object) -> Event:
    fields = {"payload": {"n": number}, "task": f"task_{number % 3}", "agent": "agt_1", "action": f"act_{number}"}
    return Event(id=f"evt_{number:032x}", kind=kind, time=1_700_000_000.25 + number, **{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Event]:
    return event


def open_book(path: Path) -> Book:
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    signer = generate(ORIGIN)
    log = AuditLog(ORIGIN, signer)
    log.rebuild(connection)
    return Book(connection, signer, log)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = open_book(tmp_path / "pratique.db")
    yield made
    made.connection.close()


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """532 leaves under 6 checkpoints: two full tiles, every leaf signed, all intents with their outcomes."""
    made = open_book(tmp_path_factory.mktemp("sealed") / "pratique.db")
    kinds = ("decision", "effect.intent", "effect.outcome", "approval.decided")
    verdicts = ("permit", "", "not_sent", "deny")
    heads = (1, 7, 256, 300, 517, 532)
    first = 0
    for now, end in enumerate(heads):
        events = [
            event(
                number,
                kinds[number % 4],
                action=f"act_{number // 4}",
                server="bank",
                tool="pay",
                verdict=verdicts[number % 4],
                ticket="apr_1" if number % 4 == 3 else "",
            )
            for number in range(first, end)
        ]
        made.write(*events, now=float(now))
        first = end
    image = made.connection.serialize()
    made.connection.close()
    return Sealed(image, made.signer.vkey, heads)
