"""However a sandbox ends, and whatever was in it, nothing of it is left, and no other sandbox notices."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from conformance.beating import MEMBERS, beating, family, lives
from conformance.nature import NATURE
from conformance.remains import GONE_S, descendants, footprint, left_since
from conformance.running import CAT, END_S, PATIENCE_S, ask, end, ran, running, shell
from support.drivers import find

from sandbox.driver import Driver

pytestmark = pytest.mark.promise("conformance-ends")

TESTS = Path(__file__).parents[1]
DELAYS_S = (0.0, 0.005, 0.02, 0.06, 0.15, 0.3, 0.6, 1.2)
"""After which a start is given up: one of them falls into each of its phases."""


async def test_a_kill_ends_every_process_and_touches_no_other_sandbox(driver: Driver, folder: Path) -> None:
    async with running(driver, CAT) as other, running(driver, family(folder, "exec sleep 600")) as session:
        assert await session.stdout.readline() == b"up\n"
        members = [folder / name for name in MEMBERS]
        assert all(await asyncio.gather(*map(lives, members)))
        session.kill()
        session.kill()
        assert await session.wait() == 128 + signal.SIGKILL
        assert not await lives(*members)
        assert await session.wait() == 128 + signal.SIGKILL
        session.kill()  # harmless still
        assert await ask(other, b"alive\n") == b"alive\n"


async def test_what_a_program_leaves_behind_ends_with_it(driver: Driver, folder: Path) -> None:
    ended = await ran(driver, family(folder, "exit 5"))
    assert (ended.status, ended.out) == (5, "up\n")
    assert not await lives(*(folder / name for name in MEMBERS))


async def test_nothing_is_left_of_it_on_the_host(driver: Driver, folder: Path) -> None:
    await ran(driver, CAT)
    before = footprint()
    async with running(driver, family(folder, "exec sleep 600")) as session:
        assert await session.stdout.readline() == b"up\n"
        assert footprint() != before  # so that what is left could be seen
    assert await left_since(before) == frozenset()


@pytest.mark.parametrize("source", ["kill -SEGV $$", "kill -KILL -1; exit 9"])
async def test_one_that_breaks_leaves_the_others_alone(driver: Driver, source: str) -> None:
    async with running(driver, CAT) as other:
        broken, answer = await asyncio.gather(ran(driver, shell(source)), ask(other, b"alive\n"))
        assert broken.status != 0
        assert answer == b"alive\n"
        assert await ask(other, b"still\n") == b"still\n"


async def test_a_start_that_is_given_up_leaves_nothing(driver: Driver, folder: Path) -> None:
    await ran(driver, CAT)
    before = footprint()
    for number, delay_s in enumerate(DELAYS_S):
        starting = asyncio.create_task(driver.start(beating(folder, f"beat{number}")))
        await asyncio.wait([starting], timeout=delay_s)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(PATIENCE_S):
                await end(await starting)
    beats = [folder / name for name in os.listdir(folder)]
    assert await left_since(before) == frozenset()
    assert not beats or not await lives(*beats)


async def test_a_gateway_that_is_killed_takes_its_sandboxes_along(driver: Driver, folder: Path) -> None:
    await ran(driver, CAT)  # what is made once and kept is there from now on
    before = footprint()
    command = (sys.executable, str(TESTS / "conformance" / "mortal_gateway.py"), driver.name, str(folder))
    gateway = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    )
    assert gateway.stdout is not None
    family: list[int] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await gateway.stdout.readline() == b"up\n"
        beats = [folder / "beat0", folder / "beat1"]
        assert all(await asyncio.gather(*map(lives, beats)))
        family = [os.pidfd_open(pid) for pid in set(descendants(gateway.pid))]
        assert footprint(gateway.pid).own
    finally:
        gateway.kill()
        await gateway.wait()
    try:
        async with asyncio.timeout(GONE_S):
            await asyncio.gather(*map(_gone, family))
        assert await _left_of(driver, gateway.pid) == set()
    finally:
        for process in family:
            os.close(process)
    assert not await lives(*beats)
    find(driver.name)  # the next gateway
    assert await left_since(before, gateway.pid) - before.own == frozenset()


async def test_a_flood_is_ended_at_once_and_nobody_else_waits_for_it(driver: Driver) -> None:
    flood = shell("trap '' TERM PIPE; cat /dev/urandom & cat /dev/zero >&2 & yes '{\"jsonrpc\":' ; wait")
    async with running(driver, CAT) as other, running(driver, flood) as session:
        assert await session.stdout.readexactly(100_000)
        assert await ask(other, b"alive\n") == b"alive\n"
        session.kill()
        async with asyncio.timeout(END_S):
            assert await session.wait() == 128 + signal.SIGKILL
        assert await ask(other, b"still\n") == b"still\n"


async def test_one_that_is_killed_while_it_ends_by_itself_leaves_nothing(driver: Driver) -> None:
    await ran(driver, CAT)
    before = footprint()
    for delay_s in (0.0, 0.001, 0.004, 0.016):
        async with running(driver, shell("exit 7")) as session:
            await session.stdout.read()
            await asyncio.wait([asyncio.create_task(session.wait())], timeout=delay_s)
            session.kill()
            assert await session.wait() in {7, 128 + signal.SIGKILL}
    assert await left_since(before) == frozenset()


async def test_an_end_is_told_although_nobody_reads_what_was_said(driver: Driver) -> None:
    async with running(driver, shell("head -c 4000000 /dev/zero; exec sleep 600")) as session:
        await session.stdout.readexactly(1)
        session.kill()
        async with asyncio.timeout(END_S):
            assert await session.wait() == 128 + signal.SIGKILL


async def test_one_that_closes_its_stdin_is_heard_on_and_ended(driver: Driver) -> None:
    deaf = shell("exec <&-; echo deaf; while :; do echo still; sleep 0.1; done")
    async with running(driver, deaf) as session:
        assert await session.stdout.readline() == b"deaf\n"
        with contextlib.suppress(ConnectionError, TimeoutError):  # refused, or held up: told either way, and no more
            for _ in range(64):
                session.stdin.write(bytes(65_536))
                async with asyncio.timeout(1):
                    await session.stdin.drain()
        assert await session.stdout.readline() == b"still\n"
        assert await end(session) == 128 + signal.SIGKILL


async def test_one_that_closes_its_stdout_is_at_its_end_only_when_it_ends(driver: Driver) -> None:
    mute = shell("exec >&-; echo mute >&2; read line; exit 4")
    async with running(driver, mute) as session:
        assert await session.stderr.readline() == b"mute\n"
        ending = asyncio.create_task(session.wait())
        await asyncio.wait([ending], timeout=0.2)
        assert not ending.done()
        session.stdin.write(b"go\n")
        assert await ending == 4


async def _gone(pidfd: int) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    await gone.wait()
    loop.remove_reader(pidfd)


async def _left_of(driver: Driver, gateway: int) -> set[str]:
    """What there is of a dead gateway after a while, but for what the next one sweeps."""
    deadline = asyncio.get_running_loop().time() + GONE_S
    while True:
        late = NATURE[driver.name].sweeps_late
        left = {item for item in footprint(gateway).own if not item.startswith(late)}
        if not left or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(0.1)
