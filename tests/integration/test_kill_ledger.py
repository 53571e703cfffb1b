"""A process that dies at any moment loses nothing that it acknowledged, and leaves rows if and only if leaves.

Children are forked from this process, which has everything loaded. Half of them kill themselves before a chosen
statement of the writer's; the others are killed from outside once they have acknowledged a chosen number of units.
"""

import asyncio
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.event import Event
from audit.keys import Signer, generate
from audit.log import AuditLog
from gateway.errors import Unrecordable
from gateway.ports import Done, Unit
from gateway.stores.database import DATABASE, Database, open_database
from gateway.stores.ledger import Ledger

ORIGIN = "pratique.example/kill"
CALLERS = 6
LIMIT_S = 20.0
"""A child that has not done its part by then fails the test."""


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate(ORIGIN)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("template")
    open_database(state).close()
    return state


def keep(name: str) -> Unit[str]:
    def unit(connection: sqlite3.Connection) -> Done[str]:
        connection.execute("INSERT INTO revocations VALUES (?, 0)", (name,))
        return Done(value=name, events=[Event(id=name, kind="effect.intent", time=0.0, payload={"of": name})])

    return unit


def suicidal(database: Database, statements: int) -> Callable[[], sqlite3.Connection]:
    """Connections that kill the process before their `statements`-th statement; 0: never."""

    def connect() -> sqlite3.Connection:
        left = statements

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        connection = database.writer()
        connection.set_trace_callback(count)
        return connection

    return connect


async def write_forever(ledger: Ledger, acknowledge: Callable[[str], None]) -> None:
    await ledger.start()

    async def caller(number: int) -> None:
        count = 0
        while True:
            acknowledge(await ledger.run(keep(f"evt_{number}_{count}")))
            count += 1

    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            callers.create_task(caller(number))


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Fork; the child does `work` with the writing end of a pipe and never returns. Its pid and the reading end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(writing)
        finally:
            os._exit(1)
    os.close(writing)
    return pid, reading


def speaker(writing: int) -> Callable[[str], None]:
    def say(line: str) -> None:
        os.write(writing, f"{line}\n".encode())

    return say


def lines(reading: int, most: int) -> list[str]:
    """What the child said, until it ended or said `most` lines; a broken last line was never said."""
    heard = b""
    while heard.count(b"\n") < most:
        assert select.select([reading], [], [], LIMIT_S)[0], "the child hangs"
        if not (more := os.read(reading, 65536)):
            break
        heard += more
    return [line.decode() for line in heard.split(b"\n")[:-1]]


@pytest.mark.promise("kill-loses-nothing")
@pytest.mark.parametrize("seed", range(20))
def test_a_killed_process_keeps_every_acknowledged_unit(
    seed: int, tmp_path: Path, template: Path, signer: Signer
) -> None:
    chance = random.Random(seed)
    from_inside = seed % 2 == 0
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)

    def work(writing: int) -> None:
        database = open_database(tmp_path)
        ledger = Ledger(
            connect=suicidal(database, chance.randrange(5, 400) if from_inside else 0),
            log=AuditLog(ORIGIN, signer),
            free_bytes=database.free_bytes,
        )
        asyncio.run(write_forever(ledger, speaker(writing)))

    pid, reading = in_child(work)
    acknowledged = lines(reading, 1_000_000 if from_inside else chance.randrange(1, 200))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    if not from_inside:
        acknowledged += lines(reading, 1_000_000)
    os.close(reading)

    assert_sound(tmp_path, signer, set(acknowledged))


@pytest.mark.promise("unwritable-denies")
def test_a_file_that_cannot_grow_denies_and_then_recovers(tmp_path: Path, template: Path, signer: Signer) -> None:
    """Real write errors at the COMMIT: the child may not write files beyond what its WAL has reached."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)

    async def scenario(ledger: Ledger, say: Callable[[str], None]) -> None:
        await ledger.start()
        say(await ledger.run(keep("evt_before")))
        wal = (tmp_path / f"{DATABASE}-wal").stat().st_size
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 20_000, unlimited))
        denied = 0
        for count in range(20):
            try:
                say(await ledger.run(keep(f"evt_{count}")))
            except Unrecordable:
                denied += 1
        say(f"denied {denied}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
        say(await ledger.run(keep("evt_after")))
        await ledger.stop()

    def work(writing: int) -> None:
        database = open_database(tmp_path)
        ledger = Ledger(connect=database.writer, log=AuditLog(ORIGIN, signer), free_bytes=database.free_bytes)
        asyncio.run(scenario(ledger, speaker(writing)))
        os._exit(0)

    pid, reading = in_child(work)
    said = lines(reading, 1_000_000)
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (said[0], said[-1]) == ("evt_before", "evt_after")
    (denied,) = (int(line.split()[1]) for line in said if line.startswith("denied"))
    written = {line for line in said if line.startswith("evt_")}
    assert denied > 0
    assert denied + len(written) == 22
    assert assert_sound(tmp_path, signer, written) == written


def assert_sound(state: Path, signer: Signer, acknowledged: set[str]) -> set[str]:
    """Every acknowledged unit is there, rows are leaves, and the log is what was signed. What is there."""
    database = open_database(state)
    reader = database.reader()
    rows = {row[0] for row in reader.execute("SELECT id FROM revocations")}
    leaves = [row[0] for row in reader.execute("SELECT id FROM leaves ORDER BY idx")]
    AuditLog(ORIGIN, signer).rebuild(reader)
    reader.close()
    database.close()

    assert acknowledged <= rows
    assert rows == set(leaves)
    assert len(leaves) == len(rows)
    return rows
