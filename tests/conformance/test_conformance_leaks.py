"""Many starts, one after another and side by side, leave the machine and this process as they were."""

import asyncio
import os

import pytest
from conformance.nature import NATURE
from conformance.remains import footprint, left_since
from conformance.running import CAT, ask, running

from sandbox.driver import Driver

pytestmark = pytest.mark.promise("conformance-leaks")

SOAK = bool(os.environ.get("PRATIQUE_SOAK"))


async def test_many_starts_leave_nothing(driver: Driver) -> None:
    await _pair(driver, 0)  # what is made once and kept is there from now on
    before = footprint()
    nature = NATURE[driver.name]
    for number in range((nature.starts if SOAK else nature.starts_quick or nature.starts) // 2):
        await _pair(driver, number)
    assert await left_since(before) == frozenset()


async def _pair(driver: Driver, number: int) -> None:
    await asyncio.gather(_once(driver, killed=number % 2 == 0), _once(driver, killed=number % 3 == 0))


async def _once(driver: Driver, *, killed: bool) -> None:
    async with running(driver, CAT) as session:
        assert await ask(session, b"x\n") == b"x\n"
        if not killed:
            session.stdin.close()
            assert await session.wait() == 0
