"""Output that nobody reads waits in the sandbox: not in the gateway, and not on the host's disk."""

import asyncio
import resource
import sys

import pytest
from security.escape.baits import PROBES_FROM
from security.escape.shore import Shore
from support.drivers import DRIVERS

from sandbox.driver import Driver
from sandbox.runtime import runtime_mounts
from sandbox.spec import MIB, Mount, Spec

OFFERED = 48 * MIB
TAKEN = 12 * MIB
"""The most that pipes, buffers and, with containers, two more processes in between hold."""
FLOODS = [(1, "lines"), (1, "line"), (2, "lines")]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.promise("escape-resources")
def test_what_is_not_read_is_not_taken(there: Shore, driver: str) -> None:
    starts = there.driver(driver)
    for stream, shape in FLOODS:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taken = there.island.run(lambda: flooded(starts, stream, shape, read=False))  # noqa: B023  # run here and now
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert taken < TAKEN, (stream, shape)
        assert grown < 2 * TAKEN, (stream, shape)


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_read_is_taken_whole(there: Shore, driver: str) -> None:
    starts = there.driver(driver)
    assert there.island.run(lambda: flooded(starts, 1, "lines", read=True)) >= OFFERED


async def flooded(driver: Driver, stream: int, shape: str, *, read: bool) -> int:
    """How many bytes the program got rid of."""
    folder = str(PROBES_FROM / "security/escape/probes")
    argv = (sys.executable, "-I", "-S", "-B", "/flood/flooding.py", str(stream), str(OFFERED), shape)
    mounts = (*runtime_mounts(argv[:1]), Mount(source=folder, target="/flood"))
    session = await driver.start(Spec(argv=argv, mounts=mounts))
    streams = {1: session.stdout, 2: session.stderr}
    reading = asyncio.ensure_future(_read(streams[stream])) if read else None
    try:
        async with asyncio.timeout(90):
            return int(await streams[3 - stream].readline())
    finally:
        session.kill()
        await asyncio.gather(session.wait(), reading or _read(streams[stream]))  # what was in the pipes


async def _read(stream: asyncio.StreamReader) -> None:
    while await stream.read(MIB):
        pass
