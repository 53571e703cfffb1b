"""A pool keeps what nobody has spoken to, hands each out once, and starts no more at a time than one."""

import asyncio
from dataclasses import dataclass, field

import pytest

from sandbox.pool import Pool


@dataclass
class Started:
    number: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    def kill(self) -> None:
        self.ended.set()


@dataclass
class Starts:
    """A driver that tells how many starts ran at once, and fails where it is told to."""

    fails: int = 0
    made: list[Started] = field(default_factory=list)
    running: int = 0
    most: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self) -> Started | None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        async with self.changed:
            self.changed.notify_all()
        if self.fails:
            self.fails -= 1
            return None
        self.made.append(Started(len(self.made)))
        return self.made[-1]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.made) >= count)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def pool():
    made = Pool()
    yield made
    await made.close()


async def test_one_is_kept_ready_and_replaced_when_it_is_taken(pool: Pool) -> None:
    starts = Starts()
    assert pool.take("a") is None
    pool.keep("a", 2, starts)
    await starts.until(2)
    first, second = pool.take("a"), pool.take("a")
    assert (first, second) == (starts.made[0], starts.made[1])
    await starts.until(4)
    assert pool.ready("a") == 2


@pytest.mark.promise("pool-single-use")
async def test_no_session_is_ever_handed_out_twice(pool: Pool) -> None:
    starts, taken = Starts(), []
    pool.keep("a", 3, starts)
    for count in range(1, 20):
        await starts.until(count)
        if (one := pool.take("a")) is not None:
            taken.append(one.number)
    assert len(taken) == len(set(taken)) > 10


async def test_kinds_do_not_mix_and_start_one_at_a_time(pool: Pool) -> None:
    starts, others = Starts(), Starts()
    both = Starts()

    async def one() -> Started | None:
        await both()
        return await starts()

    async def other() -> Started | None:
        await both()
        return await others()

    pool.keep("a", 3, one)
    pool.keep("b", 3, other)
    await starts.until(3)
    await others.until(3)
    assert both.most == 1
    assert pool.take("a") in starts.made
    assert pool.take("b") in others.made


async def test_what_dies_while_it_waits_is_not_handed_out(pool: Pool) -> None:
    starts = Starts()
    pool.keep("a", 2, starts)
    await starts.until(2)
    starts.made[0].kill()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool.take("a") is starts.made[1]


async def test_a_start_that_fails_is_tried_again_later() -> None:
    pool: Pool = Pool()
    starts = Starts(fails=1)
    pool.keep("a", 1, starts)
    for _ in range(5):
        await asyncio.sleep(0)
    assert pool.take("a") is None  # not at once
    await starts.until(1)  # a second later
    assert pool.take("a") is starts.made[0]
    await pool.close()


async def test_closing_ends_what_is_kept_and_nothing_that_was_taken() -> None:
    pool: Pool = Pool()
    starts = Starts()
    pool.keep("a", 1, starts)
    await starts.until(1)
    mine = pool.take("a")
    await starts.until(2)
    await pool.close()
    assert mine is not None
    assert not mine.ended.is_set()
    assert starts.made[1].ended.is_set()
