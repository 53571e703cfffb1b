"""Block tables: how a sequence comes by its blocks, shares them, and gives them back.

Everything a sequence does with the pool goes through here, so that the table, the reference counts, the prefix cache
and the block-seconds on its bill always agree.
"""

from collections.abc import Iterable, Iterator

from llmcore.block_pool import BlockPool
from llmcore.prefix_cache import Key, Parent, PrefixCache
from llmcore.sequence import Sequence


class BlockTables:
    """One device's tables. `cache` is None where prefixes are not kept."""

    def __init__(self, pool: BlockPool, cache: PrefixCache | None, *, block_size: int) -> None:
        self.pool = pool
        self.cache = cache
        self.block_size = block_size
        self.owners = [""] * pool.num_blocks
        """The tenant each block was allocated for, for people to see."""
        self.hits = 0
        """Prompt tokens that the cache spared."""
        self.lookups = 0
        """Prompt tokens that it might have spared."""

    def count_for(self, num_tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-num_tokens // self.block_size)

    def known(self, sequence: Sequence) -> list[int]:
        """The blocks of its prefix that are cached, from the beginning. Its last token is always computed."""
        if self.cache is None:
            return []
        return self.cache.match(sequence.request.domain, self._pieces(sequence))

    def adopt(self, sequence: Sequence) -> int:
        """Go on with cached blocks as far as they reach; answers how many tokens need not be computed."""
        before = sequence.computed
        while self.cache is not None and sequence.computed == len(sequence.blocks) * self.block_size:
            key = self.next_key(sequence, before_last=True)
            block = None if key is None else self.cache.find(key)
            if block is None:
                break
            self.pool.share(block)
            self._append(sequence, block)
            sequence.computed += self.block_size
        self.hits += sequence.computed - before
        return sequence.computed - before

    def next_key(self, sequence: Sequence, *, before_last: bool = False) -> Key | None:
        """Of the block that its next token to compute lies in; None while that block is not full of known tokens.

        `before_last`: nor if it holds the last token.
        """
        if self.cache is None:
            return None
        index = sequence.computed // self.block_size
        if (index + 1) * self.block_size > len(sequence.tokens) - before_last:
            return None
        return self._key(sequence, index)

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Allocate until the table holds so many tokens.

        Raises:
            OutOfBlocks: the scheduler did not make room.
        """
        while len(sequence.blocks) * self.block_size < num_tokens:
            block = self.pool.allocate()
            self.owners[block] = sequence.request.tenant
            self._append(sequence, block)

    def write(self, sequence: Sequence) -> tuple[int, int] | None:
        """Make room for its last token, in a block of its own; answers (from, to) where one must be copied first.

        Raises:
            OutOfBlocks: the scheduler did not make room.
        """
        self.grow(sequence, len(sequence.tokens))
        block = sequence.blocks[-1]
        if self.pool.references[block] == 1:
            return None
        self._credit(sequence, block)  # while it is still one of its users
        copy = self.pool.writable(block)
        sequence.blocks[-1] = copy
        self._debit(sequence, copy)
        self.owners[copy] = sequence.request.tenant
        return block, copy

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child goes on from where the parent is, on the same blocks."""
        child.tokens = list(parent.tokens)
        child.computed = parent.computed
        for block in parent.blocks:
            self.pool.share(block)
            self._append(child, block)

    def rebuild(self, sequences: Iterable[Sequence]) -> dict[int, int]:
        """New blocks instead of those that the tables name elsewhere (in host memory, in a snapshot), shared as there.

        Answers which new block stands for which of the old; what they hold must be brought before they are read.

        Raises:
            OutOfBlocks: the scheduler did not make room.
        """
        fresh: dict[int, int] = {}
        for sequence in sequences:
            before, sequence.blocks = sequence.blocks, []
            for old in before:
                if old in fresh:
                    self.pool.share(fresh[old])
                else:
                    fresh[old] = self.pool.allocate()
                    self.owners[fresh[old]] = sequence.request.tenant
                self._append(sequence, fresh[old])
        return fresh

    def computed(self, sequence: Sequence, count: int) -> None:
        """So many more of its tokens have their keys and values: what is full by now can be found by others."""
        first = sequence.computed // self.block_size
        sequence.computed += count
        self._enter(sequence, first)

    def joined(self, sequence: Sequence) -> None:
        """It came with blocks that were not entered for it: they came back to the device, or its parent had them."""
        self._enter(sequence, 0)

    def release(self, sequence: Sequence) -> None:
        """Give all of it back, the end first: a prefix outlives what follows it."""
        self.settle(sequence)
        for block in reversed(sequence.blocks):
            self.pool.release(block)
        sequence.blocks.clear()
        sequence.block_debt = 0.0

    def settle(self, sequence: Sequence) -> None:
        """Bring `block_seconds` up to now."""
        total = sum(map(self.pool.reading, sequence.blocks))
        sequence.block_seconds += total - sequence.block_debt
        sequence.block_debt = total

    def _enter(self, sequence: Sequence, first: int) -> None:
        """Where the same was computed twice, the sequence goes over to what was there before. So whoever uses a block
        uses all that stand before it, and the pool gives up children before their parents."""
        if self.cache is None:
            return
        for index in range(first, sequence.computed // self.block_size):
            block = sequence.blocks[index]
            known = self.cache.enter(self._key(sequence, index), block)
            if known != block:
                self.pool.share(known)
                self._debit(sequence, known)
                self._credit(sequence, block)
                self.pool.release(block)
                sequence.blocks[index] = known

    def _append(self, sequence: Sequence, block: int) -> None:
        sequence.blocks.append(block)
        self._debit(sequence, block)

    def _debit(self, sequence: Sequence, block: int) -> None:
        sequence.block_debt += self.pool.reading(block)

    def _credit(self, sequence: Sequence, block: int) -> None:
        sequence.block_debt -= self.pool.reading(block)

    def _key(self, sequence: Sequence, index: int) -> Key:
        assert self.cache is not None
        parent: Parent = self.cache.after(sequence.blocks[index - 1]) if index else sequence.request.domain
        return parent, tuple(sequence.tokens[index * self.block_size : (index + 1) * self.block_size])

    def _pieces(self, sequence: Sequence) -> Iterator[tuple[int, ...]]:
        size, tokens = self.block_size, sequence.tokens
        for start in range(0, (len(tokens) - 1) // size * size, size):
            yield tuple(tokens[start : start + size])
