"""The one writer: every durable write of the process is a unit of this ledger, and a batch of units is one commit.

The event loop gathers what its tasks submit in one turn and hands it over whole; a thread of its own runs it
(`writer.py`) and comes back with one hop for the whole batch, on which memory moves and everybody is answered.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from gateway.errors import StoreError, Unrecordable
from gateway.ports import Submitted, Unit
from gateway.stores.writer import Entry, Log, Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 64
"""Units in one transaction: bounds how long the first of them waits for the last."""


class Ledger:
    """The writer's thread, its queue, and the answers. All methods are the event loop's."""

    def __init__(
        self,
        *,
        connect: Callable[[], sqlite3.Connection],
        log: Log,
        free_bytes: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = Writer(
            connect=connect, log=log, free_bytes=free_bytes, ran=self._announce, more=self._joining, clock=clock
        )
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._gathered: list[Entry] = []
        """Submitted in this turn of the event loop."""
        self._waiting: deque[Entry] = deque()
        """Taken from the queue and not yet in a batch; the thread's own, or nobody's while none runs."""
        self._batch: Sequence[Entry] = ()
        """What the thread is writing: left behind if it dies."""
        self._stopped: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Open the store and begin to write.

        Raises:
            StoreError: it cannot be written; and what the log raises when the disk does not hold what was signed.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._writer.open)
        except sqlite3.Error as error:
            raise StoreError(f"the database cannot be written: {error}") from error
        self._spawn()

    def submit(self, unit: Unit[T], *, early: bool = False, reserved: bool = False) -> Submitted[T]:
        """Queue a unit; the batch that takes it commits once.

        early: `ran` is answered before the COMMIT (one more hop); otherwise it is `durable`.
        reserved: an outcome, which may use the last of the disk.
        Cancelling either future while the unit is queued drops the unit.
        """
        durable: asyncio.Future[T] = self._loop.create_future()
        if self._stopped is not None:
            durable.set_exception(Unrecordable("the ledger is closed"))
            return Submitted(durable, durable)
        ran: asyncio.Future[T] | None = self._loop.create_future() if early else None
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(Entry(unit, durable, ran, reserved))
        return Submitted(durable if ran is None else ran, durable)

    async def run(self, unit: Unit[T], *, reserved: bool = False) -> T:
        """Submit and wait until it is durable.

        Raises:
            Unrecordable: nothing was written.
        """
        return await self.submit(unit, reserved=reserved).durable

    async def stop(self) -> None:
        """Write what is queued, sign the last checkpoint, close."""
        if self._stopped is None:
            self._stopped = self._loop.create_future()
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    # ---- on the event loop ----------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _answer(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            _answer(entry)

    def _spawn(self, orphans: Sequence[Entry] = ()) -> None:
        self._batch = orphans
        threading.Thread(target=self._serve, name="ledger", daemon=True).start()

    def _revive(self) -> None:
        """The writer died: what it had in hand is answered by its successor, what was queued fails now."""
        logger.error("the ledger's writer died; another one starts")
        waiting = [*self._waiting]
        self._waiting.clear()
        while (queued := self._poll(0)) != []:
            waiting.extend(queued or ())
        for entry in waiting:
            entry.done, entry.failure = None, Unrecordable("nothing was written: the writer died")
            _answer(entry)
        self._spawn(self._batch)
        if self._stopped is not None:
            self._queue.put(None)

    def _finished(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    # ---- on the writer's thread -----------------------------------------------------------------------------

    def _serve(self) -> None:
        then: Callable[[], None] = self._revive
        try:
            self._adopt()
            while (batch := self._take()) is not None:
                self._batch = batch
                self._writer.write(batch)
                if batch:
                    self._loop.call_soon_threadsafe(self._answer, batch)
                self._batch = ()
            self._writer.close()
            then = self._finished
        finally:
            self._loop.call_soon_threadsafe(then)

    def _adopt(self) -> None:
        """Answer what a dead predecessor had in hand."""
        if orphans := self._batch:
            self._batch = ()
            self._waiting.extend(orphans)  # if this kills us too, they fail with what is queued
            self._writer.recover(orphans, None)
            self._waiting.clear()
            self._loop.call_soon_threadsafe(self._answer, orphans)

    def _take(self) -> list[Entry] | None:
        """The next batch: empty when it is time to sign, None when it is time to stop."""
        waiting = self._waiting
        if not waiting:
            first = self._poll(self._writer.wait_s())
            if not first:
                return first
            waiting.extend(first)
        while len(waiting) < MAX_BATCH and (more := self._poll(0)) != []:
            if more is None:
                self._queue.put(None)  # nobody submits after it, so it stays the last
                break
            waiting.extend(more)
        return [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]

    def _joining(self, wait_s: float) -> list[Entry]:
        """What comes in while a transaction stays open; nothing more once it is time to stop."""
        waiting = self._waiting
        if not waiting:
            found = self._poll(wait_s)
            if found is None:
                self._queue.put(None)
            waiting.extend(found or ())
        return [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]

    def _poll(self, wait_s: float | None) -> list[Entry] | None:
        """What was handed over next; empty: nothing within `wait_s`."""
        try:
            return self._queue.get(timeout=wait_s) if wait_s != 0 else self._queue.get_nowait()
        except Empty:
            return []

    def _announce(self, early: Sequence[Entry]) -> None:
        self._loop.call_soon_threadsafe(_announce, early)


def _announce(early: Sequence[Entry]) -> None:
    for entry in early:
        if entry.ran is not None and entry.done is not None and not entry.ran.done():
            entry.ran.set_result(entry.done.value)


def _answer(entry: Entry) -> None:
    """Move memory, then answer. A caller that has gone changes nothing: memory follows the disk."""
    if entry.done is not None and entry.done.after is not None:
        try:
            entry.done.after()
        except Exception as error:  # noqa: BLE001 - it is this caller's, and the others of the batch still wait
            entry.failure = error
    for future in (entry.ran, entry.durable):
        if future is None or future.done():
            continue
        if entry.failure is not None:
            future.set_exception(entry.failure)
        elif entry.done is not None:
            future.set_result(entry.done.value)
        else:
            future.cancel()
    if entry.ran is not None:  # whoever asked early may have heard of a failure by the other one
        for future in (entry.ran, entry.durable):
            if not future.cancelled():
                future.exception()
