"""A transaction of early units alone stays open for what follows from them. No clock, no thread: the writer itself."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from audit.event import Event
from gateway.ports import Done
from gateway.stores.database import Database, open_database
from gateway.stores.writer import LINGER_S, RESERVE_BYTES, Entry, Writer


class NoLog:
    def append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None: ...

    def due(self, now: float) -> bool:
        return False

    def checkpoint(self, connection: sqlite3.Connection, now: float) -> None: ...

    def committed(self) -> None: ...

    def rebuild(self, connection: sqlite3.Connection) -> None: ...


class Desk:
    """A writer, what it told early, how long it was willing to wait, and what comes in meanwhile."""

    def __init__(self, database: Database) -> None:
        self.told: list[str] = []
        self.waits: list[float] = []
        self.coming: list[list[Entry]] = []
        self.statements: list[str] = []
        self._database = database
        self.writer = Writer(
            connect=self._connect,
            log=NoLog(),
            free_bytes=lambda: RESERVE_BYTES,
            ran=lambda early: self.told.extend(entry.done.value for entry in early if entry.done),
            more=self._more,
        )
        self.writer.open()

    def _connect(self) -> sqlite3.Connection:
        connection = self._database.writer()
        connection.set_trace_callback(self.statements.append)
        return connection

    def _more(self, wait_s: float) -> list[Entry]:
        self.waits.append(wait_s)
        return self.coming.pop(0) if self.coming else []

    def write(self, *batch: Entry) -> list[Entry]:
        """What the batch has become, with all that joined it."""
        del self.statements[:]
        written = list(batch)
        self.writer.write(written)
        return written

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    database = open_database(tmp_path)
    desk = Desk(database)
    yield desk
    desk.writer.close()
    database.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


Make = Callable[..., Entry]


@pytest.fixture
def entry(loop: asyncio.AbstractEventLoop) -> Make:
    def make(name: str, *, early: bool = False, keep: bool = True) -> Entry:
        def unit(connection: sqlite3.Connection) -> Done[str]:
            connection.execute("INSERT INTO revocations VALUES (?, 0)", (name,))
            return Done(value=name, keep=keep)

        return Entry(unit, loop.create_future(), loop.create_future() if early else None)

    return make


def test_an_outcome_that_comes_in_time_shares_the_commit_of_its_pure_read(desk: Desk, entry: Make) -> None:
    desk.coming = [[entry("outcome")]]
    written = desk.write(entry("intent", early=True))

    assert [one.done and one.done.value for one in written] == ["intent", "outcome"]
    assert desk.told == ["intent"]
    assert desk.commits == 1
    assert desk.waits == [LINGER_S]  # once somebody waits for the disk, nobody is waited for


def test_a_pure_read_whose_outcome_takes_longer_is_committed_without_it(desk: Desk, entry: Make) -> None:
    desk.write(entry("intent", early=True))

    assert desk.waits == [LINGER_S]
    assert desk.commits == 1


def test_who_waits_for_the_disk_is_never_kept_waiting(desk: Desk, entry: Make) -> None:
    desk.write(entry("pure read", early=True), entry("write"))
    desk.write(entry("write"))

    assert desk.waits == []


def test_a_pure_read_that_was_refused_keeps_nothing_open(desk: Desk, entry: Make) -> None:
    desk.write(entry("refused", early=True, keep=False))

    assert desk.waits == []


def test_several_pure_reads_together_do_not_wait_longer_than_one(desk: Desk, entry: Make) -> None:
    desk.coming = [[entry("b", early=True)], [entry("c", early=True)], [entry("outcome")]]
    desk.write(entry("a", early=True))

    assert all(later < LINGER_S for later in desk.waits[1:])
    assert desk.commits == 1
