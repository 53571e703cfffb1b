"""Which blocks hold which prefixes, so that a prompt that begins as another did is not computed twice.

A full block is known by what stands before it and by its own token ids: its *key* is (identity of the entry before it,
ids), and the chain begins at a domain. The key is hashed to be found and compared whole to be believed: a hash is not
an identity. An identity is a number that is never used again, so a chain cannot be continued from a block that has
since been given to somebody else, and there is no way from one domain's chain into another's.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import TypeAlias

from llmcore.block_pool import BlockPool

Parent: TypeAlias = int | str
"""The identity of the entry before; a domain, at the beginning."""

Key: TypeAlias = tuple[Parent, tuple[int, ...]]


class PrefixCache:
    """Keys of full, computed blocks. The pool decides which of them are given up; here they are only forgotten."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._blocks: dict[Key, int] = {}
        self._entries: dict[int, tuple[Key, int]] = {}
        """By block: its key and identity."""
        self._identities: Iterator[int] = count()
        pool.evicted = self._forget

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, block: int) -> bool:
        return block in self._entries

    def find(self, key: Key) -> int | None:
        """The block that holds this, used or cached; the caller shares it before anything else is allocated."""
        return self._blocks.get(key)

    def match(self, domain: str, pieces: Iterable[tuple[int, ...]]) -> list[int]:
        """The blocks of the longest known prefix; each piece is the ids of one full block."""
        parent: Parent = domain
        found: list[int] = []
        for piece in pieces:
            block = self._blocks.get((parent, piece))
            if block is None:
                break
            found.append(block)
            parent = self._entries[block][1]
        return found

    def after(self, block: int) -> Parent:
        """What stands before whatever follows this block."""
        return self._entries[block][1]

    def enter(self, key: Key, block: int) -> int:
        """The block has been computed. Answers the one that stands for this key: another, if it was there before."""
        known = self._blocks.get(key)
        if known is not None:
            return known
        self._blocks[key] = block
        self._entries[block] = key, next(self._identities)
        self._pool.keep(block)
        return block

    def _forget(self, block: int) -> None:
        key, _ = self._entries.pop(block)
        del self._blocks[key]
