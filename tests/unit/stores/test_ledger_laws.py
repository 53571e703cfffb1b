"""The ledger against a serial model: whatever breaks, rows if and only if leaves, and answers say what is there.

The log is the real one, the store is a real file, and so is the full disk; I/O errors and commits in doubt come from a
connection that errs before or after a statement.
"""

import asyncio
import functools
import logging
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from typing_extensions import override

from audit.event import Event
from audit.keys import generate
from audit.log import AuditLog
from gateway.errors import Unrecordable
from gateway.ports import Done, Unit
from gateway.stores.database import DATABASE, open_database
from gateway.stores.ledger import Ledger
from gateway.stores.writer import RESERVE_BYTES

ORIGIN = "pratique.example/laws"
SPENDABLE = 6


class Kind(Enum):
    KEEP = "writes a row"
    SPEND = "writes a row while the budget lasts, else refuses"
    REFUSE = "writes a row and takes it back"
    RAISE = "writes a row and raises"
    STUMBLE = "meets an error of the disk that leaves the transaction open"
    FULL = "meets a full disk, which rolls everything back"
    UNNOTICED = "meets a full disk, and goes on as if nothing had happened"
    DIE = "takes the writer's thread down"


FATAL = {Kind.FULL, Kind.UNNOTICED, Kind.DIE}


class Boom(Exception):
    pass


@dataclass
class Fault:
    """Err once, before or after the next statement that begins so; a death takes the writer's thread with it."""

    statement: str = ""
    after: bool = False
    death: bool = False
    openings: int = 0
    """How many of the next connections cannot be made."""
    fired: bool = False

    def strike(self) -> None:
        self.fired = True
        raise SystemExit if self.death else sqlite3.OperationalError("disk I/O error")


class Disk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = Fault()

    def connect(self) -> sqlite3.Connection:
        if self.fault.openings:
            self.fault.openings -= 1
            raise sqlite3.OperationalError("unable to open database file")
        disk = self

        class Faulty(sqlite3.Connection):
            @override
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return disk.guarded(super().execute, sql, parameters)

            @override
            def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                return disk.guarded(super().executemany, sql, parameters)

        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, factory=Faulty)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def guarded(self, execute: Any, sql: str, parameters: Any) -> sqlite3.Cursor:
        fault = self.fault
        struck = not fault.fired and fault.statement and sql.startswith(fault.statement)
        if struck and not fault.after:
            fault.strike()
        cursor: sqlite3.Cursor = execute(sql, *parameters)
        if struck:
            fault.strike()
        return cursor


@dataclass
class Submission:
    name: str
    kind: Kind
    durable: asyncio.Future[str]
    ran: asyncio.Future[str]


@dataclass
class Model:
    """The same units one after another, on a disk that never fails."""

    rows: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    spent: int = 0

    def play(self, kind: Kind, name: str) -> str | None:
        """What the unit answers; None: it raises."""
        if kind in (Kind.RAISE, Kind.STUMBLE):
            return None
        self.leaves.append(name)
        if kind is Kind.REFUSE or (kind is Kind.SPEND and self.spent == SPENDABLE):
            return "refused"
        self.spent += kind is Kind.SPEND
        self.rows.append(name)
        self.memory.append(name)
        return "kept"


@functools.cache
def empty_database() -> Path:
    state = Path(tempfile.mkdtemp())
    open_database(state).close()
    return state / DATABASE


def turns() -> st.SearchStrategy[list[tuple[Kind, bool, bool]]]:
    """What each caller's unit does, whether it asks early, whether it is cancelled in the queue."""
    kinds = st.sampled_from([Kind.KEEP, Kind.SPEND, Kind.REFUSE] * 5 + list(Kind))
    return st.lists(st.tuples(kinds, st.booleans(), st.sampled_from([False] * 5 + [True])), min_size=1, max_size=8)


def faults() -> st.SearchStrategy[Fault]:
    statements = ["BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK TO", "INSERT INTO leaves", "INSERT INTO payloads"]
    return st.just(Fault()) | st.builds(
        Fault,
        statement=st.sampled_from([*statements, "INSERT INTO meta"]) | st.just("COMMIT"),
        after=st.booleans(),
        death=st.booleans(),
        openings=st.integers(0, 1),
    )


class LedgerAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.disk = Disk(Path(shutil.copy(empty_database(), self.folder.name)))
        self.reader = sqlite3.connect(self.disk.path, isolation_level=None)
        self.reader.execute(f"INSERT INTO budgets VALUES ('tok', 'calls', 0, {SPENDABLE})")
        self.signer = generate(ORIGIN)
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.memory: list[str] = []
        self.count = 0
        self.open()

    def open(self) -> None:
        self.log = AuditLog(ORIGIN, self.signer)
        self.ledger = Ledger(connect=self.disk.connect, log=self.log, free_bytes=lambda: RESERVE_BYTES)
        self.loop.run_until_complete(self.ledger.start())

    @rule(turn=turns(), fault=faults())
    def one_turn(self, turn: list[tuple[Kind, bool, bool]], fault: Fault) -> None:
        """Several callers in one turn of the event loop, some gone before they are heard, on a disk that may err."""
        submissions = [self.submit(kind, early) for kind, early, _ in turn]
        for each, (_, _, gone) in zip(submissions, turn, strict=True):
            if gone:
                each.durable.cancel()
        self.settle([each for each in submissions if not each.durable.cancelled()], fault)

    def submit(self, kind: Kind, early: bool) -> Submission:
        self.count += 1
        name = f"evt_{self.count}"
        submitted = self.ledger.submit(self.unit(name, kind), early=early)
        assert isinstance(submitted.durable, asyncio.Future)
        assert isinstance(submitted.ran, asyncio.Future)
        return Submission(name, kind, submitted.durable, submitted.ran)

    def settle(self, turn: list[Submission], fault: Fault) -> None:
        self.disk.fault, openings = replace(fault), fault.openings
        fault = self.disk.fault
        fatal = any(each.kind in FATAL for each in turn)
        answers = self.loop.run_until_complete(answered(turn))
        in_doubt = fault.fired and fault.statement == "COMMIT" and fault.after
        blind = fault.fired and fault.openings < openings
        self.disk.fault = Fault()
        self.loop.run_until_complete(self.ledger.run(lambda _: Done(value=None)))  # whatever it was, it is over
        if not fatal and (in_doubt or not fault.fired):
            expected = [self.model.play(each.kind, each.name) for each in turn]
            told = not (in_doubt and blind)
        else:
            expected, told = [None] * len(turn), False
        if in_doubt and blind:  # it stands, but nobody could be told: memory did not move either
            self.model.memory = [*self.memory]
        for each, answer, right in zip(turn, answers, expected, strict=True):
            if told and right is not None:
                assert answer == right
                assert each.ran.result() == right
            elif each.kind is Kind.RAISE:
                assert isinstance(answer, Boom | Unrecordable)
            else:
                assert isinstance(answer, Unrecordable)

    @rule()
    def restart(self) -> None:
        self.disk.fault = Fault()
        self.loop.run_until_complete(self.ledger.stop())
        size = self.log.size
        self.open()
        assert self.log.size == size == len(self.model.leaves)
        signed = self.reader.execute("SELECT max(size) FROM checkpoints").fetchone()[0]
        assert (signed or 0) == size

    @invariant()
    def rows_if_and_only_if_leaves(self) -> None:
        read = self.reader.execute
        assert [row[0] for row in read("SELECT id FROM revocations ORDER BY rowid")] == self.model.rows
        assert [row[0] for row in read("SELECT id FROM leaves ORDER BY idx")] == self.model.leaves
        assert read("SELECT count(*) FROM payloads").fetchone()[0] == len(self.model.leaves)
        assert read("SELECT used FROM budgets").fetchone()[0] == self.model.spent
        assert self.memory == self.model.memory

    @override
    def teardown(self) -> None:
        self.disk.fault = Fault()
        self.loop.run_until_complete(self.ledger.stop())
        AuditLog(ORIGIN, self.signer).rebuild(self.reader)
        self.reader.close()
        self.loop.close()
        self.folder.cleanup()

    def unit(self, name: str, kind: Kind) -> Unit[str]:
        def run(connection: sqlite3.Connection) -> Done[str]:
            connection.execute("INSERT INTO revocations VALUES (?, 0)", (name,))
            keep = kind is not Kind.REFUSE
            match kind:
                case Kind.SPEND:
                    spent = "UPDATE budgets SET used = used + 1 WHERE root = 'tok' AND used < most"
                    keep = connection.execute(spent).rowcount == 1
                case Kind.RAISE:
                    raise Boom
                case Kind.STUMBLE:
                    raise sqlite3.OperationalError("disk I/O error")
                case Kind.FULL:
                    fill(connection)
                case Kind.UNNOTICED:
                    with pytest.raises(sqlite3.OperationalError, match="full"):
                        fill(connection)
                case Kind.DIE:
                    raise SystemExit
                case Kind.KEEP | Kind.REFUSE:
                    pass
            return Done(
                value="kept" if keep else "refused",
                events=[Event(id=name, kind="decision", time=0.0)],
                after=(lambda: self.memory.append(name)) if keep else None,
                keep=keep,
            )

        return run


async def answered(turn: list[Submission]) -> list[str | BaseException]:
    return await asyncio.gather(*(each.durable for each in turn), return_exceptions=True)


def fill(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    connection.execute("INSERT INTO revocations VALUES (zeroblob(1000000), 0)")


@pytest.mark.promise("ledger-rows-iff-leaves")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_ledger_does_what_a_serial_one_would(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    LedgerAgainstModel.TestCase.settings = settings(
        max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    LedgerAgainstModel.TestCase("runTest").runTest()
