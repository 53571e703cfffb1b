"""What the ledger's thread does: a batch of units becomes one transaction, or provably none.

    BEGIN IMMEDIATE
      per unit   SAVEPOINT, the unit, RELEASE (or ROLLBACK TO where it refused or raised: its neighbours stand)
      linger     where nobody waits for the COMMIT yet: a pure read's outcome mostly comes in time to share it
      then       the leaves of all, a signed checkpoint where one is due, the batch's own number
    COMMIT

The connection is in autocommit mode and every boundary is written out: in its default mode the driver commits at a
RELEASE. A full disk, an I/O error or an interrupt may roll back the *whole* transaction inside a unit, and a later
RELEASE would then commit by itself: so `in_transaction` is looked at after each unit, and a batch that lost it failed.
A unit lets the driver's errors through: one that caught them and wrote on would write outside the transaction.

After any failure the truth is read from the disk: a new connection, and whether the batch's number stands there.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audit.event import Event
from gateway.errors import Unrecordable
from gateway.ports import Done, Unit

logger = logging.getLogger(__name__)

CHECKPOINT_S = 0.8
"""A leaf is under a signed checkpoint at most one second after its commit."""
LINGER_S = 0.002
"""How long a transaction of early units alone stays open for what follows from them."""
RESERVE_BYTES = 16 << 20
"""Free space below which only reserved units run, so that an effect that happened can still be written down."""


class Log(Protocol):
    """The audit log, as its only writer uses it (`audit.log`)."""

    def append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        """Write the leaves inside the open transaction."""
        ...

    def due(self, now: float) -> bool:
        """Whether leaves wait for a checkpoint long enough."""
        ...

    def checkpoint(self, connection: sqlite3.Connection, now: float) -> None:
        """Sign the tree as the open transaction leaves it."""
        ...

    def committed(self) -> None:
        """What was appended is durable: the frontier in memory may move."""
        ...

    def rebuild(self, connection: sqlite3.Connection) -> None:
        """Forget the frontier in memory and learn it from the disk."""
        ...


@dataclass(slots=True, eq=False)
class Entry:
    """A unit on its way through the writer: afterwards it holds `done` or `failure`, neither where it was dropped."""

    unit: Unit[Any]
    durable: asyncio.Future[Any]
    ran: asyncio.Future[Any] | None = None
    """Only where somebody asked to hear of the value before the COMMIT."""
    reserved: bool = False
    """May use the space that is kept back."""
    done: Done[Any] | None = None
    failure: Exception | None = None

    @property
    def dropped(self) -> bool:
        """Its caller was cancelled before it ran."""
        return self.durable.cancelled() or (self.ran is not None and self.ran.cancelled())


class Writer:
    """The only connection that writes. Not thread-safe: one thread at a time holds it."""

    def __init__(
        self,
        *,
        connect: Callable[[], sqlite3.Connection],
        log: Log,
        free_bytes: Callable[[], int],
        ran: Callable[[Sequence[Entry]], None],
        more: Callable[[float], Sequence[Entry]] = lambda _wait_s: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect = connect
        self._log = log
        self._free_bytes = free_bytes
        self._ran = ran
        """Told of those that are waited for before the COMMIT."""
        self._more = more
        """Asked for what comes in within so many seconds, to join the open transaction."""
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._number = 0
        """Of the last batch that was tried; never used twice."""
        self._stands: int | None = None
        """The number that the last opening found on disk; None: it could not say."""
        self._unsigned_since: float | None = None
        """Monotonic time of the oldest commit that no checkpoint covers."""

    def open(self) -> None:
        """Connect, learn what stands on disk, and write there once.

        Raises:
            sqlite3.Error, and whatever the log raises when the disk does not hold what was signed.
        """
        self._stands = None
        connection = self._connect()
        try:
            row = connection.execute("SELECT value FROM meta WHERE key = 'batch'").fetchone()
            self._stands = int(row[0]) if row else 0
            self._log.rebuild(connection)
            # A COMMIT that failed in its fsync can lie whole behind the end of the WAL, where a crash would revive it:
            # whoever was told "not written" must stay right, so the next frames go over it at once.
            self._number = max(self._stands, self._number) + 1
            connection.execute("BEGIN IMMEDIATE")
            _write_number(connection, self._number)
            connection.execute("COMMIT")
        except BaseException:
            _let_go(connection)
            raise
        self._connection = connection
        self._unsigned_since = time.monotonic()  # what an earlier writer left unsigned, if it did

    def write(self, batch: list[Entry]) -> None:
        """One transaction. An empty batch only signs what waits to be signed; what joins one is added to it."""
        self._number += 1  # this batch's, whatever happens to it
        try:
            if self._connection is None:
                self.open()
                self._number += 1  # the opening wrote the one before
            self._transact(batch)
        except Exception as cause:  # whatever broke, none of the batch happened unless the disk says so
            logger.exception("a batch failed", extra={"units": len(batch)})
            self.recover(batch, cause)

    def recover(self, batch: Sequence[Entry], cause: Exception | None) -> None:
        """After a failure at any point of `batch`: learn from the disk whether it was committed, and say so."""
        tried, ran = self._number, [(entry, entry.done) for entry in batch]
        for entry in batch:  # until the disk says otherwise
            entry.done = None
            if entry.failure is None:
                entry.failure = Unrecordable(f"nothing was written: {cause or 'the writer died'}")
                entry.failure.__cause__ = cause
        try:
            self._disconnect()
            self.open()
        except Exception:  # the next batch begins by trying again
            logger.exception("the store cannot be opened")
            self._unsigned_since = time.monotonic()
        if self._stands == tried:
            for entry, done in ran:
                if done is not None:
                    entry.done, entry.failure = done, None

    def wait_s(self) -> float | None:
        """How long the writer may sleep; None: until there is work."""
        if self._unsigned_since is None:
            return None
        return max(0.0, self._unsigned_since + CHECKPOINT_S - time.monotonic())

    def close(self) -> None:
        """Sign what is unsigned, and let go of the database."""
        if self._unsigned_since is not None:
            self._unsigned_since = float("-inf")
            self.write([])
        self._disconnect()

    def _transact(self, batch: list[Entry]) -> None:
        connection, log = self._connection, self._log
        assert connection is not None
        execute = connection.execute
        low = bool(batch) and self._free_bytes() < RESERVE_BYTES
        execute("BEGIN IMMEDIATE")
        events = self._run(connection, batch, low)
        left_s, until = LINGER_S, time.monotonic() + LINGER_S
        while _lingers(batch) and left_s > 0 and (joined := self._more(left_s)):
            batch.extend(joined)
            events += self._run(connection, joined, low)
            left_s = until - time.monotonic()
        if events:
            log.append(connection, events)
        unsigned_since = self._unsigned_since
        if events and unsigned_since is None:
            unsigned_since = time.monotonic()
        now = self._clock()
        if unsigned_since is not None and (time.monotonic() - unsigned_since >= CHECKPOINT_S or log.due(now)):
            log.checkpoint(connection, now)
            unsigned_since = None
        _write_number(connection, self._number)
        execute("COMMIT")
        log.committed()
        self._unsigned_since = unsigned_since

    def _run(self, connection: sqlite3.Connection, entries: Sequence[Entry], low: bool) -> list[Event]:
        """Run units in the open transaction, each under a savepoint of its own; what they want logged."""
        execute = connection.execute
        events: list[Event] = []
        early: list[Entry] = []
        for entry in entries:
            if early and entry.ran is None:  # nobody early waits for a unit of somebody patient
                self._ran(early)
                early = []
            if entry.dropped:
                continue
            if low and not entry.reserved:
                entry.failure = Unrecordable("the disk is almost full: what is left is kept for outcomes")
                continue
            execute("SAVEPOINT unit")
            done = _attempt(connection, entry)
            if done is None or not done.keep:
                execute("ROLLBACK TO unit")
            execute("RELEASE unit")
            if done is not None:
                entry.done = done
                events.extend(done.events)
                if entry.ran is not None:
                    early.append(entry)
        if early:
            self._ran(early)
        return events

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            _let_go(connection)


def _attempt(connection: sqlite3.Connection, entry: Entry) -> Done[Any] | None:
    """Run one unit; None: it raised, and fails alone.

    Raises:
        Unrecordable: the transaction is gone, so the whole batch has failed.
    """
    done: Done[Any] | None = None
    try:
        done = entry.unit(connection)
    except sqlite3.OperationalError as error:  # the disk's fault rather than the unit's
        entry.failure = Unrecordable(f"nothing was written: {error}")
        entry.failure.__cause__ = error
    except Exception as error:  # noqa: BLE001 - it is the caller's, and its neighbours must not hear of it
        entry.failure = error
    if not connection.in_transaction:
        raise Unrecordable(f"the transaction was lost inside a unit: {entry.failure or 'unnoticed'}") from entry.failure
    return done


def _lingers(batch: Sequence[Entry]) -> bool:
    """Whether all that was asked of this batch so far has been answered: only early units, and one that goes on."""
    return all(entry.ran is not None for entry in batch) and any(entry.done and entry.done.keep for entry in batch)


def _let_go(connection: sqlite3.Connection) -> None:
    """Close, and end the transaction first: a cursor that a traceback still holds would keep it and its lock alive."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        logger.exception("a transaction could not be rolled back")
    connection.close()


def _write_number(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('batch', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(number),),
    )
