"""Each limit is where the spec puts it: nothing passes it, and what stays below is not hindered."""

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from conformance.nature import NATURE
from conformance.running import MIB, Ran, limited, python, ran, shell

from sandbox.driver import Driver
from sandbox.spec import Limits

pytestmark = pytest.mark.promise("conformance-limits")

TAKING = Path(__file__).with_name("taking.py").read_text()

SMALL = Limits(pids=24, files=64, tmp_bytes=8 * MIB, file_bytes=2 * MIB, memory_bytes=64 * MIB)
LARGE = Limits(pids=96, files=256, tmp_bytes=32 * MIB, file_bytes=16 * MIB, memory_bytes=320 * MIB)
WANTED = {"pids": 48, "files": 128, "tmp": 16 * MIB, "file": 4 * MIB}
"""More than the small limits give, less than the large ones."""
OWN_PIDS = 4
"""The most that a sandbox's own first processes may count among the program's."""


@pytest.fixture(scope="module")
def had(driver: Driver) -> dict[str, dict[str, float]]:
    """What the same requests were given under either limits, in one sandbox each."""

    async def ask_both() -> dict[str, dict[str, float]]:
        wanted = [f"{what}:{amount}" for what, amount in WANTED.items()]
        roomy = replace(SMALL, memory_bytes=LARGE.memory_bytes)  # a driver's own bookkeeping may count as memory too
        small, large = [await take(driver, limits, *wanted) for limits in (roomy, LARGE)]
        assert (small.status, large.status) == (0, 0), (small, large)
        return {"small": told(small), "large": told(large)}

    return asyncio.run(ask_both())


def test_processes_end_at_their_limit(driver: Driver, had: dict[str, dict[str, float]]) -> None:
    most = SMALL.pids + NATURE[driver.name].pids_over
    assert SMALL.pids - OWN_PIDS <= had["small"]["pids"] <= most < WANTED["pids"]
    assert had["large"]["pids"] == WANTED["pids"] + 1


def test_descriptors_end_at_their_limit(had: dict[str, dict[str, float]]) -> None:
    assert had["small"]["files"] == SMALL.files
    assert had["large"]["files"] >= WANTED["files"]


def test_tmp_ends_at_its_size(had: dict[str, dict[str, float]]) -> None:
    assert SMALL.tmp_bytes - MIB <= had["small"]["tmp"] <= SMALL.tmp_bytes
    assert had["large"]["tmp"] == WANTED["tmp"]


def test_a_file_ends_at_its_size(had: dict[str, dict[str, float]]) -> None:
    assert had["small"]["file"] == SMALL.file_bytes
    assert had["large"]["file"] == WANTED["file"]


async def test_one_process_does_not_hold_more_memory_than_there_may_be(driver: Driver) -> None:
    wanted = f"memory:{2 * SMALL.memory_bytes}"
    small, large = await take(driver, SMALL, wanted), await take(driver, LARGE, wanted)
    most = SMALL.memory_bytes + NATURE[driver.name].memory_over_bytes
    assert SMALL.memory_bytes // 2 <= told(small)["memory"] <= most
    assert (large.status, told(large)["memory"]) == (0, 2 * SMALL.memory_bytes)


async def test_several_processes_do_not_hold_more_memory_together(driver: Driver) -> None:
    each = SMALL.memory_bytes * 6 // 10 // MIB * MIB
    small, large = [await take(driver, limits, f"memories:4x{each}") for limits in (SMALL, LARGE)]
    most = SMALL.memory_bytes + NATURE[driver.name].memory_over_bytes
    assert told(small).get("memories", 0) <= most  # nothing said: whoever took it was ended
    assert (large.status, told(large)["memories"]) == (0, 4 * each)


async def test_a_process_gets_its_seconds_of_the_processor_and_no_more(driver: Driver) -> None:
    busy = shell("echo up; while :; do :; done")
    few = await ran(driver, limited(busy, cpu_s=1))
    assert (few.status - 128 in (signal.SIGKILL, signal.SIGXCPU), few.out) == (True, "up\n")
    enough = await ran(driver, limited(python(TAKING, "cpu:1.5"), cpu_s=60))
    assert (enough.status, told(enough)["cpu"] >= 1.5) == (0, True)


async def take(driver: Driver, limits: Limits, *wanted: str) -> Ran:
    return await ran(driver, replace(python(TAKING, *wanted), limits=limits))


def told(ran: Ran) -> dict[str, float]:
    """The last that was said of each thing."""
    had: dict[str, float] = {}
    for line in ran.out.splitlines():
        had |= json.loads(line)
    return had
