"""When a sandbox is ended, everything in it has ended: what goes on by itself, is deaf, asleep, or somebody else's."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from security.escape.baits import Laid, laid
from security.escape.defences import Nothing
from security.escape.judge import Starts
from security.escape.probes.lingering import WAYS
from security.escape.shore import Shore
from support.drivers import DRIVERS

from sandbox.driver import Session
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

READY_S = 60.0
LOOK_S = 0.4
"""Forty beats, if anything beats."""


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.promise("escape-time")
def test_nothing_goes_on_after_the_end(there: Shore, driver: str) -> None:
    starts = there.driver(driver)
    beats, residue = there.island.call(lambda: after_the_end(there.socket, lambda _: starts))
    assert beats == dict.fromkeys(WAYS, 0)
    assert residue == []


def test_without_a_sandbox_all_of_it_goes_on(there: Shore) -> None:
    beats, _ = there.island.call(lambda: after_the_end(there.socket, nothing))
    assert all(beats.values())


def nothing(bait: Laid) -> Starts:
    return Nothing(canary=bait.bait.canary, secret=bait.secret)


def after_the_end(socket: str, starts: Callable[[Laid], Starts]) -> tuple[dict[str, int], list[str]]:
    """How often each way's process beat after everything was said to have ended, and what was left."""
    with laid(socket, "") as bait:
        return {way: asyncio.run(_beats(starts(bait), bait, way)) for way in WAYS}, bait.residue()


async def _beats(starts: Starts, bait: Laid, way: str) -> int:
    path = Path(bait.bait.box) / way
    session = await _started(starts, bait, way, path)
    session.kill()
    await session.wait()
    try:
        before = path.stat().st_size
        await asyncio.sleep(LOOK_S)  # nothing announces that nothing happens
        return path.stat().st_size - before
    finally:
        if isinstance(starts, Nothing):
            with suppress(ProcessLookupError):
                os.kill(int(path.read_bytes().split(b"\n")[0]), signal.SIGKILL)


async def _started(starts: Starts, bait: Laid, way: str, path: Path) -> Session:
    argv = (sys.executable, "-I", "-S", "-B", f"{bait.program}/security/escape/probes/lingering.py", way, str(path))
    mounts = (
        *runtime_mounts(argv[:1]),
        Mount(source=bait.program, target=bait.program),
        Mount(source=bait.bait.box, target=bait.bait.box, writable=True),
    )
    session = await starts.start(Spec(argv=argv, mounts=mounts))
    try:
        async with asyncio.timeout(READY_S):
            said = await session.stdout.readline()
        assert said == b"ready\n", (await session.stderr.read(4096)).decode()
    except BaseException:
        session.kill()
        await session.wait()
        raise
    return session
