"""Tiles of 256 hashes (https://c2sp.org/tlog-tiles): how a tree of any size is stored, served and rebuilt.

Tile `n` of level `l` holds the roots of 256 subtrees of `256**l` leaves each; at level 0 those are leaf hashes.
Only full tiles are written: they never change again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from audit.merkle import HASH_SIZE, Frontier, root

WIDTH = 256
HEIGHT = 8
"""Of the subtree that one tile spans: `2**HEIGHT == WIDTH`."""
TILE_BYTES = WIDTH * HASH_SIZE


@dataclass(frozen=True, slots=True)
class Tile:
    """One full tile."""

    level: int
    n: int
    hashes: bytes

    @property
    def end(self) -> int:
        """One past the last leaf it spans."""
        return (self.n + 1) * span(self.level + 1)

    @property
    def root(self) -> bytes:
        return root(split(self.hashes))


class Tiler:
    """Gathers hashes into tiles, level by level."""

    __slots__ = ("_counts", "_open")

    def __init__(self) -> None:
        self._counts: list[int] = [0]
        """Full tiles taken so far, by level."""
        self._open: list[list[bytes]] = [[]]
        """Hashes that no taken tile holds yet, by level."""

    def add(self, digest: bytes) -> None:
        """The next leaf's hash."""
        self._open[0].append(digest)

    def take(self) -> list[Tile]:
        """The tiles that have filled since they were last taken, those below before those above."""
        taken = []
        level = 0
        while level < len(self._open):
            while len(self._open[level]) >= WIDTH:
                hashes = self._open[level][:WIDTH]
                del self._open[level][:WIDTH]
                taken.append(tile := Tile(level, self._counts[level], b"".join(hashes)))
                self._push(tile)
            level += 1
        return taken

    @classmethod
    def resume(cls, counts: Sequence[int], read: Callable[[int, int], Tile]) -> "Tiler":
        """Stand where a log with so many full tiles by level stands; `read(level, n)` gets one of them.

        Only the tiles that no full tile above them sums up are read: fewer than 256 a level.

        Raises:
            ValueError: no log leaves such counts behind.
        """
        tiler = cls()
        tiler._counts = [*counts, 0]
        tiler._open = [[]]
        for level, (count, above) in enumerate(pairwise(tiler._counts)):
            if count // WIDTH != above:
                raise ValueError(f"{count} full tiles of level {level} under {above} of level {level + 1}")
            tiler._open.append([read(level, n).root for n in range(above * WIDTH, count)])
        return tiler

    def tree(self) -> Frontier:
        """The frontier over every hash that was added."""
        tree = Frontier()
        for level in range(len(self._open) - 1, -1, -1):
            for digest in self._open[level]:
                tree.append(digest, height=HEIGHT * level)
        return tree

    def _push(self, tile: Tile) -> None:
        self._counts[tile.level] += 1
        if tile.level + 1 == len(self._open):
            self._open.append([])
            self._counts.append(0)
        self._open[tile.level + 1].append(tile.root)


def span(level: int) -> int:
    """Leaves under one hash of this level."""
    return 1 << HEIGHT * level


def split(hashes: bytes) -> list[bytes]:
    """The single hashes of a tile."""
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
