"""Tiles hold the tree, and the tree stands again from them."""

import pytest

from audit.merkle import Frontier, leaf_hash
from audit.tiles import Tile, Tiler, split


def grown(size: int) -> tuple[Tiler, Frontier, dict[tuple[int, int], Tile]]:
    tiler, tree, tiles = Tiler(), Frontier(), {}
    for number in range(size):
        digest = leaf_hash(b"%d" % number)
        tiler.add(digest)
        tree.append(digest)
        for tile in tiler.take():
            tiles[tile.level, tile.n] = tile
    return tiler, tree, tiles


def counts(tiles: dict[tuple[int, int], Tile]) -> list[int]:
    top = max((level for level, _ in tiles), default=-1)
    return [sum(1 for level, _ in tiles if level == wanted) for wanted in range(top + 1)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 1000, 65_536, 66_100])
def test_a_tree_stands_again_from_its_tiles_and_the_leaves_after_them(size: int) -> None:
    _, tree, tiles = grown(size)

    tiler = Tiler.resume(counts(tiles), lambda level, n: tiles[level, n])
    again = tiler.tree()
    assert again.size == size // 256 * 256
    for number in range(again.size, size):
        tiler.add(leaf_hash(b"%d" % number))
        again.append(leaf_hash(b"%d" % number))

    assert (again.size, again.root()) == (tree.size, tree.root())


def test_a_resumed_tiler_goes_on_as_if_it_had_never_stopped() -> None:
    _, _, tiles = grown(65_536 + 256)
    first = {place: tile for place, tile in tiles.items() if tile.end <= 65_536 - 256}
    tiler = Tiler.resume(counts(first), lambda level, n: tiles[level, n])
    for number in range(65_536 - 256, 65_536 + 256):
        tiler.add(leaf_hash(b"%d" % number))

    taken = {(tile.level, tile.n): tile for tile in tiler.take()}

    assert taken == {place: tile for place, tile in tiles.items() if place not in first}
    assert taken[1, 0].end == 65_536


def test_a_tile_is_256_hashes_and_those_above_are_roots_of_those_below() -> None:
    _, _, tiles = grown(65_536)
    assert len(tiles) == 257
    assert all(len(tile.hashes) == 8192 for tile in tiles.values())
    assert split(tiles[1, 0].hashes) == [tiles[0, n].root for n in range(256)]


def test_counts_that_no_log_leaves_behind_are_refused() -> None:
    with pytest.raises(ValueError, match="3 full tiles of level 0"):
        Tiler.resume([3, 1], lambda level, n: pytest.fail(f"read {level}/{n}"))
