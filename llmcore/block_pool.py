"""The pages of KV memory: which blocks are free, who shares the others, and which to give up when room is needed.

A block is *used* (somebody refers to it), *cached* (nobody does, but it holds a prefix that may be asked for again) or
*free*. Always: free + cached + used = all. Nothing here knows what a block holds.
"""

from collections.abc import Callable

from llmcore.errors import LlmError


class OutOfBlocks(LlmError):
    """Every block is used. The scheduler makes room before it asks, so to see this is to see a mistake in it."""


class BlockPool:
    """Blocks `0 .. num_blocks - 1`, with reference counts, and a meter on each that runs while it is used."""

    def __init__(self, num_blocks: int, *, clock: Callable[[], float], evicted: Callable[[int], None] | None = None):
        """`evicted` hears of a cached block that is given to somebody else, before that somebody gets it."""
        self.num_blocks = num_blocks
        self.references = [0] * num_blocks
        self.evicted = evicted
        self._clock = clock
        self._free = list(range(num_blocks - 1, -1, -1))
        self._kept = bytearray(num_blocks)
        self._cached: dict[int, None] = {}
        """In order of release, so the first is the least recently used."""
        self._meter = [0.0] * num_blocks
        self._turned = [0.0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.available

    @property
    def available(self) -> int:
        """How many `allocate` can give."""
        return len(self._free) + len(self._cached)

    def is_cached(self, block: int) -> bool:
        """Whether nobody uses it and it may still be found by what it holds."""
        return block in self._cached

    def allocate(self) -> int:
        """A block for one user: a free one, or else the least recently used of the cached.

        Raises:
            OutOfBlocks: every block is used.
        """
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block = next(iter(self._cached))
            del self._cached[block]
            self._kept[block] = False
            if self.evicted is not None:
                self.evicted(block)
        else:
            raise OutOfBlocks(f"all {self.num_blocks} KV blocks are in use")
        self._turn(block, 1)
        return block

    def share(self, block: int) -> None:
        """One more user of a block that is used or cached."""
        if not self.references[block]:
            del self._cached[block]
        self._turn(block, 1)

    def release(self, block: int) -> None:
        """One user less; the last one leaves it cached, if it was to be kept, or free."""
        if not self.references[block]:
            raise ValueError(f"block {block} was released by nobody who had it")
        self._turn(block, -1)
        if not self.references[block]:
            if self._kept[block]:
                self._cached[block] = None
            else:
                self._free.append(block)

    def writable(self, block: int) -> int:
        """The block to write to instead of this one: itself, or, where others share it, a new one to copy it to first.

        Raises:
            OutOfBlocks: every block is used.
        """
        if self.references[block] == 1:
            return block
        copy = self.allocate()
        self.release(block)
        return copy

    def keep(self, block: int) -> None:
        """What it holds may be asked for again: cached, not free, once nobody uses it."""
        self._kept[block] = True

    def reading(self, block: int) -> float:
        """Its meter: the integral of one over the number of users, in seconds.

        What one user owes for a block is the difference between the readings at the end and at the beginning; all
        users together owe just the time it was used. So nobody needs to count at every step.
        """
        return self._meter[block] + self._share_since(block, self._clock())

    def _turn(self, block: int, change: int) -> None:
        now = self._clock()
        self._meter[block] += self._share_since(block, now)
        self._turned[block] = now
        self.references[block] += change

    def _share_since(self, block: int, now: float) -> float:
        users = self.references[block]
        return (now - self._turned[block]) / users if users else 0.0
