"""The one writer, promise by promise. A fake log records the order of things; the store is a real one."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from audit.event import Event
from gateway.errors import StoreError, Unrecordable
from gateway.ports import Done
from gateway.stores.database import Database, open_database
from gateway.stores.ledger import MAX_BATCH, Ledger
from gateway.stores.writer import RESERVE_BYTES


class RecordingLog:
    """Writes leaves without a tree, and remembers what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.signed = threading.Event()
        self.refuses_checkpoints = 0

    def append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        assert connection.in_transaction
        self.asked.append("append " + " ".join(event.id for event in events))

    def due(self, now: float) -> bool:
        return False

    def checkpoint(self, connection: sqlite3.Connection, now: float) -> None:
        assert connection.in_transaction
        if self.refuses_checkpoints:
            self.refuses_checkpoints -= 1
            raise ValueError("no signature today")
        self.asked.append("checkpoint")
        self.signed.set()

    def committed(self) -> None:
        self.asked.append("committed")

    def rebuild(self, connection: sqlite3.Connection) -> None:
        self.asked.append("rebuild")


class Boom(Exception):
    pass


writer_dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Harness:
    def __init__(self, state: Path) -> None:
        self.database: Database = open_database(state)
        self.log = RecordingLog()
        self.free = RESERVE_BYTES
        self.statements: list[str] = []
        self.connections: list[sqlite3.Connection] = []
        self.ledger = Ledger(connect=self.connect, log=self.log, free_bytes=lambda: self.free)

    def connect(self) -> sqlite3.Connection:
        connection = self.database.writer()
        connection.set_trace_callback(self.statements.append)
        self.connections.append(connection)
        return connection

    def rows(self) -> list[str]:
        reader = self.database.reader()
        found = [row[0] for row in reader.execute("SELECT id FROM revocations ORDER BY rowid")]
        reader.close()
        return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path)
    await harness.ledger.start()
    yield harness
    await harness.ledger.stop()
    harness.database.close()


def keep(name: str, *, after: Callable[[], None] | None = None) -> Callable[[sqlite3.Connection], Done[str]]:
    def unit(connection: sqlite3.Connection) -> Done[str]:
        connection.execute("INSERT INTO revocations VALUES (?, 0)", (name,))
        return Done(value=name, events=[event(name)], after=after)

    return unit


def refuse(name: str) -> Callable[[sqlite3.Connection], Done[str]]:
    def unit(connection: sqlite3.Connection) -> Done[str]:
        connection.execute("INSERT INTO revocations VALUES (?, 0)", (name,))
        return Done(value=f"no {name}", events=[event(name)], keep=False)

    return unit


def explode(error: BaseException) -> Callable[[sqlite3.Connection], Done[str]]:
    def unit(connection: sqlite3.Connection) -> Done[str]:
        connection.execute("INSERT INTO revocations VALUES ('half done', 0)")
        raise error

    return unit


def full_disk(connection: sqlite3.Connection) -> Done[str]:
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    connection.execute("INSERT INTO revocations VALUES (zeroblob(10000000), 0)")
    raise AssertionError("it was not full")


def event(name: str) -> Event:
    return Event(id=name, kind="decision", time=0.0)


async def test_what_one_turn_submits_is_one_commit(store: Harness) -> None:
    del store.statements[:], store.log.asked[:]
    assert await asyncio.gather(*(store.ledger.run(keep(name)) for name in "abc")) == ["a", "b", "c"]

    assert store.statements.count("COMMIT") == 1
    assert store.log.asked == ["append a b c", "committed"]
    assert store.rows() == ["a", "b", "c"]


async def test_a_batch_is_bounded(store: Harness) -> None:
    del store.log.asked[:]
    names = [f"n{i}" for i in range(MAX_BATCH + 1)]
    await asyncio.gather(*(store.ledger.run(keep(name)) for name in names))
    assert store.log.asked == ["append " + " ".join(names[:-1]), "committed", f"append {names[-1]}", "committed"]


@pytest.mark.promise("ledger-rows-iff-leaves")
async def test_a_refusal_leaves_a_leaf_and_no_row_and_its_neighbours_stand(store: Harness) -> None:
    del store.log.asked[:]
    answers = await asyncio.gather(*(store.ledger.run(unit) for unit in (keep("a"), refuse("b"), keep("c"))))
    assert answers == ["a", "no b", "c"]
    assert store.log.asked == ["append a b c", "committed"]
    assert store.rows() == ["a", "c"]


async def test_a_unit_that_raises_fails_alone(store: Harness) -> None:
    units = (keep("a"), explode(Boom()), explode(sqlite3.OperationalError("disk I/O error")), keep("c"))
    a, boom, broken, c = await asyncio.gather(*(store.ledger.run(unit) for unit in units), return_exceptions=True)
    assert (a, c) == ("a", "c")
    assert isinstance(boom, Boom)
    assert isinstance(broken, Unrecordable)
    assert store.rows() == ["a", "c"]
    assert len(store.connections) == 1


@pytest.mark.promise("unwritable-denies")
async def test_a_full_disk_fails_the_whole_batch_and_the_next_one_is_written(store: Harness) -> None:
    answers = await asyncio.gather(
        *(store.ledger.run(unit) for unit in (keep("a"), full_disk, keep("c"))), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Unrecordable] * 3
    assert all(str(answer).endswith("database or disk is full") for answer in answers)
    assert store.rows() == []
    assert await store.ledger.run(keep("d")) == "d"
    assert store.rows() == ["d"]


async def test_a_transaction_lost_inside_a_unit_fails_its_batch(store: Harness) -> None:
    """As SQLite does on its own at a full disk or an I/O error; the unit may even not have noticed."""

    def lost(connection: sqlite3.Connection) -> Done[str]:
        connection.execute("ROLLBACK")
        return Done(value="lost", events=[event("lost")])

    del store.log.asked[:]
    answers = await asyncio.gather(
        *(store.ledger.run(unit) for unit in (keep("a"), lost, keep("c"))), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Unrecordable] * 3
    assert store.rows() == []
    assert store.log.asked == ["rebuild"]
    assert await store.ledger.run(keep("d")) == "d"


@pytest.mark.promise("commit-in-doubt")
@pytest.mark.parametrize("stands", [True, False])
async def test_a_commit_that_errs_is_answered_as_the_disk_says(tmp_path: Path, stands: bool) -> None:
    store, moved = Harness(tmp_path), list[str]()
    err_once = iter([True])

    class Doubtful(sqlite3.Connection):
        @override
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            errs = sql == "COMMIT" and store.log.asked[-1:] == ["append a b"] and next(err_once, False)
            if errs and not stands:
                raise sqlite3.OperationalError("disk I/O error")
            cursor = super().execute(sql, *parameters)
            if errs:
                raise sqlite3.OperationalError("disk I/O error")
            return cursor

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(store.database.path, isolation_level=None, check_same_thread=False, factory=Doubtful)

    ledger = Ledger(connect=connect, log=store.log, free_bytes=lambda: RESERVE_BYTES)
    await ledger.start()
    units = keep("a", after=lambda: moved.append("a")), refuse("b")
    answers = await asyncio.gather(*(ledger.run(unit) for unit in units), return_exceptions=True)
    if stands:
        assert (answers, store.rows(), moved) == (["a", "no b"], ["a"], ["a"])
    else:
        assert [type(answer) for answer in answers] == [Unrecordable] * 2
        assert (store.rows(), moved) == ([], [])
    assert store.log.asked[-2:] == ["append a b", "rebuild"]
    assert next(err_once, None) is None
    assert await ledger.run(keep("c")) == "c"
    await ledger.stop()
    store.database.close()


async def test_a_caller_cancelled_in_the_queue_is_dropped(store: Harness) -> None:
    gone = store.ledger.submit(keep("gone"))
    early = store.ledger.submit(keep("early"), early=True)
    here = store.ledger.submit(keep("here"))
    assert isinstance(gone.durable, asyncio.Future)
    assert isinstance(early.ran, asyncio.Future)
    assert isinstance(early.durable, asyncio.Future)
    gone.durable.cancel()
    early.ran.cancel()
    await here.durable
    assert early.durable.cancelled()
    assert store.rows() == ["here"]


async def test_memory_moves_once_the_commit_is_durable_and_before_anyone_is_answered(store: Harness) -> None:
    order: list[str] = []
    loop_thread = threading.get_ident()

    def after() -> None:
        assert threading.get_ident() == loop_thread
        order.append(f"after, with {store.rows()}")

    order.append(await store.ledger.run(keep("a", after=after)))
    assert order == ["after, with ['a']", "a"]


async def test_memory_follows_the_disk_even_when_the_caller_has_gone(store: Harness) -> None:
    moved: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def unit(connection: sqlite3.Connection) -> Done[str]:
        inside.set()
        assert go.wait(10)
        return keep("a", after=lambda: moved.append("a"))(connection)

    caller = asyncio.create_task(store.ledger.run(unit))
    await asyncio.to_thread(inside.wait, 10)
    caller.cancel()
    go.set()
    await store.ledger.run(keep("b"))
    assert caller.cancelled()
    assert (store.rows(), moved) == (["a", "b"], ["a"])


async def test_a_memory_that_cannot_move_is_its_callers_error_alone(store: Harness) -> None:
    def after() -> None:
        raise Boom

    broken, fine = await asyncio.gather(
        store.ledger.run(keep("a", after=after)), store.ledger.run(keep("b")), return_exceptions=True
    )
    assert isinstance(broken, Boom)
    assert fine == "b"


async def test_a_pure_read_hears_of_its_unit_before_the_commit(store: Harness) -> None:
    go = threading.Event()

    def slow(connection: sqlite3.Connection) -> Done[str]:
        assert go.wait(10)
        return Done(value="slow")

    early = store.ledger.submit(keep("a"), early=True)
    last = store.ledger.submit(slow)
    assert await early.ran == "a"
    assert store.rows() == []
    go.set()
    assert await early.durable == "a"
    assert await last.durable == "slow"
    assert store.rows() == ["a"]


@writer_dies
async def test_an_early_answer_is_taken_back_when_the_batch_fails(store: Harness) -> None:
    early = store.ledger.submit(keep("a"), early=True)
    dies = store.ledger.submit(explode(SystemExit()))
    assert await early.ran == "a"
    for durable in (early.durable, dies.durable):
        with pytest.raises(Unrecordable):
            await durable
    assert store.rows() == []


@writer_dies
async def test_a_dead_writer_fails_what_it_had_and_is_started_again(
    store: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    inside, go = threading.Event(), threading.Event()

    def dies(connection: sqlite3.Connection) -> Done[str]:
        inside.set()
        assert go.wait(10)
        raise SystemExit

    in_hand = asyncio.gather(store.ledger.run(keep("a")), store.ledger.run(dies), return_exceptions=True)
    await asyncio.to_thread(inside.wait, 10)
    queued = asyncio.gather(store.ledger.run(keep("b")), return_exceptions=True)
    await asyncio.sleep(0)  # so that it is in the queue
    go.set()
    assert [type(answer) for answer in (*await in_hand, *await queued)] == [Unrecordable] * 3
    assert store.rows() == []

    assert await store.ledger.run(keep("c")) == "c"
    assert "the ledger's writer died; another one starts" in caplog.messages


@writer_dies
async def test_a_writer_that_dies_while_stopping_still_stops(tmp_path: Path) -> None:
    store = Harness(tmp_path)
    await store.ledger.start()
    dying = store.ledger.submit(explode(SystemExit()))
    await store.ledger.stop()
    with pytest.raises(Unrecordable):
        await dying.durable
    store.database.close()


@pytest.mark.promise("outcome-space-reserved")
async def test_the_last_of_the_disk_is_kept_for_outcomes(store: Harness) -> None:
    store.free = RESERVE_BYTES - 1
    intent, outcome = await asyncio.gather(
        store.ledger.run(keep("intent")), store.ledger.run(keep("outcome"), reserved=True), return_exceptions=True
    )
    assert isinstance(intent, Unrecordable)
    assert outcome == "outcome"
    assert store.rows() == ["outcome"]


async def test_leaves_are_signed_within_a_second_without_further_traffic(store: Harness) -> None:
    await store.ledger.run(keep("a"))
    store.log.signed.clear()
    started = asyncio.get_running_loop().time()
    assert await asyncio.to_thread(store.log.signed.wait, 10)
    assert asyncio.get_running_loop().time() - started < 1.0


async def test_stopping_writes_what_is_queued_and_signs_it(tmp_path: Path) -> None:
    store = Harness(tmp_path)
    await store.ledger.start()
    last = [store.ledger.submit(keep(f"n{i}")) for i in range(MAX_BATCH * 2)]
    await store.ledger.stop()

    assert [await each.durable for each in last] == store.rows()
    assert store.log.asked[-2:] == ["checkpoint", "committed"]
    with pytest.raises(Unrecordable, match="closed"):
        await store.ledger.run(keep("late"))
    store.database.close()


async def test_a_checkpoint_that_fails_is_tried_again_and_loses_nothing(
    store: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    store.log.refuses_checkpoints = 1
    await store.ledger.run(keep("a"))
    store.log.signed.clear()
    assert await asyncio.to_thread(store.log.signed.wait, 10)
    assert store.rows() == ["a"]


async def test_a_store_that_cannot_be_written_does_not_start(tmp_path: Path) -> None:
    store = Harness(tmp_path)
    other = store.database.writer()
    other.execute("BEGIN IMMEDIATE")

    def impatient() -> sqlite3.Connection:
        connection = store.database.writer()
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    ledger = Ledger(connect=impatient, log=store.log, free_bytes=lambda: RESERVE_BYTES)
    with pytest.raises(StoreError, match="locked"):
        await ledger.start()
    other.close()
    store.database.close()
