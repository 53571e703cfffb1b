"""The KV map as an SVG: a cell for each block, and one path for all blocks that look the same.

So a map of thirty thousand blocks is some dozens of elements, each with a title to hover over, and no inline style.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.edges.kvmap import Block, KvMap, block_title

COLUMNS = 64
CELL, STEP = 10, 12
"""Pixels of a cell, and from one to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Every block of one look."""

    style: str
    """Classes of the style sheet: the look, and the tenant's colour."""
    title: str
    path: str
    """SVG path data, a square for each block."""
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    shapes: Sequence[Shape]
    width: int
    height: int


def drawing_of(map: KvMap) -> Drawing:
    """The map, left to right and then down, in the order of the blocks."""
    places: dict[Block, list[int]] = {}
    for place, block in enumerate(map.blocks):
        places.setdefault(block, []).append(place)
    rows = -(-len(map.blocks) // COLUMNS)
    return Drawing(
        shapes=[_shape(map, block, found) for block, found in places.items()],
        width=min(len(map.blocks), COLUMNS) * STEP,
        height=rows * STEP,
    )


def _shape(map: KvMap, block: Block, places: Sequence[int]) -> Shape:
    inset = (STEP - CELL) // 2
    squares = (
        f"M{place % COLUMNS * STEP + inset} {place // COLUMNS * STEP + inset}h{CELL}v{CELL}h-{CELL}z"
        for place in places
    )
    colour = f" t{map.colours[block.tenant]}" if block.tenant else ""
    return Shape(style=f"{block.look}{colour}", title=block_title(block), path="".join(squares), blocks=len(places))
