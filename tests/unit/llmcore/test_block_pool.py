"""Blocks are conserved whatever happens: free + cached + used = all, and nobody gives back what nobody has."""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmcore.block_pool import BlockPool, OutOfBlocks

NUM_BLOCKS = 5


class PoolMachine(RuleBasedStateMachine):
    """A model beside the pool: who holds what, and since when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.evicted: list[int] = []
        self.pool = BlockPool(NUM_BLOCKS, clock=lambda: self.now, evicted=self.evicted.append)
        self.held: list[tuple[int, float]] = []
        """(block, its reading when it was taken), for each user."""
        self.kept: set[int] = set()
        self.paid = 0.0
        self.used_s = 0.0

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.used_s += seconds * self.pool.num_used
        self.now += seconds

    @rule()
    def allocate(self) -> None:
        users = Counter(block for block, _ in self.held)
        self.evicted.clear()
        if len(users) == NUM_BLOCKS:
            with pytest.raises(OutOfBlocks):
                self.pool.allocate()
            return
        block = self.pool.allocate()
        assert block not in users
        assert self.evicted == ([block] if block in self.kept else [])
        self.kept.discard(block)
        self._hold(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        self._share(data.draw(st.sampled_from(self.held))[0])

    @precondition(lambda self: self._idle())
    @rule(data=st.data())
    def take_up_what_is_cached(self, data: st.DataObject) -> None:
        self._share(data.draw(st.sampled_from(sorted(self._idle()))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        block, _ = data.draw(st.sampled_from(self.held))
        self.pool.keep(block)
        self.kept.add(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._release(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.held) - 1))
        block, taken = self.held[place]
        is_shared = sum(other == block for other, _ in self.held) > 1
        if is_shared and not self.pool.available:
            with pytest.raises(OutOfBlocks):
                self.pool.writable(block)
            return
        self.paid += self.pool.reading(block) - taken
        writable = self.pool.writable(block)
        assert (writable != block) == is_shared
        if is_shared:
            self.kept.discard(writable)
        self.held[place] = writable, self.pool.reading(writable)

    @invariant()
    def blocks_are_conserved(self) -> None:
        pool, users = self.pool, Counter(block for block, _ in self.held)
        assert pool.num_free + pool.num_cached + pool.num_used == NUM_BLOCKS
        assert pool.available == NUM_BLOCKS - len(users)
        assert pool.references == [users[block] for block in range(NUM_BLOCKS)]
        assert {block for block in range(NUM_BLOCKS) if pool.is_cached(block)} == self._idle()

    @invariant()
    def all_users_together_owe_the_time_that_blocks_were_used(self) -> None:
        owed = sum(self.pool.reading(block) - taken for block, taken in self.held)
        assert self.paid + owed == pytest.approx(self.used_s)

    def _idle(self) -> set[int]:
        return self.kept - {block for block, _ in self.held}

    def _hold(self, block: int) -> None:
        self.held.append((block, self.pool.reading(block)))

    def _share(self, block: int) -> None:
        self.pool.share(block)
        self._hold(block)

    def _release(self, place: int) -> None:
        block, taken = self.held.pop(place)
        self.paid += self.pool.reading(block) - taken
        self.pool.release(block)


TestPool = PoolMachine.TestCase


def test_what_nobody_holds_cannot_be_given_back() -> None:
    pool = BlockPool(2, clock=lambda: 0.0)
    block = pool.allocate()
    pool.release(block)

    with pytest.raises(ValueError, match="released by nobody"):
        pool.release(block)


def test_the_least_recently_used_is_given_up_first_and_only_when_nothing_is_free() -> None:
    evicted: list[int] = []
    pool = BlockPool(3, clock=lambda: 0.0, evicted=evicted.append)
    first, second = pool.allocate(), pool.allocate()
    for block in (first, second):
        pool.keep(block)
        pool.release(block)
    pool.share(first)  # used again
    pool.release(first)

    taken = [pool.allocate() for _ in range(3)]

    assert evicted == [second, first]
    assert taken[1:] == [second, first]
