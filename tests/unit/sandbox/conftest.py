"""A driver for this machine, and a short way to run something in it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sandbox import Bubblewrap, Spec

Run = Callable[[Spec], Awaitable[tuple[int, str, str]]]


@pytest.fixture(scope="session")
def driver() -> Bubblewrap:
    return Bubblewrap.find()


@pytest.fixture
def run(driver: Bubblewrap) -> Run:
    async def to_its_end(spec: Spec) -> tuple[int, str, str]:
        session = await driver.start(spec)
        session.stdin.close()
        out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
        return await session.wait(), out.decode(), err.decode()

    return to_its_end
