"""The model's memory as people see it: each block's look, its tenant's colour, and the counts in words.

Drawn by the console (`console/kvdrawing.py`) and the command line (`cli/llm_top.py`); whoever shows a name or a
sentence of this makes it inert: tenants are strings of somebody else's.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

from policies.jsonvalue import JSONObject

COLOURS = 12
"""How many tenants have a colour of their own; with more, some share one, and their names tell them apart."""


class Look(StrEnum):
    """What a block is doing."""

    FREE = "free"
    CACHED = "cached"
    """A prefix that may be wanted again; nobody uses it, and it goes as soon as room is needed."""
    USED = "used"
    SHARED = "shared"
    """More than one sequence reads it."""


class Block(NamedTuple):
    """Everything that is shown of one block; blocks that are equal look the same."""

    look: Look
    tenant: str
    references: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KvMap:
    """The blocks in their order, and which colour each tenant has."""

    blocks: Sequence[Block]
    colours: dict[str, int]

    def count(self, look: Look) -> int:
        return sum(block.look is look for block in self.blocks)

    @property
    def held(self) -> dict[str, int]:
        """Blocks in use by tenant, the most first."""
        return dict(Counter(one.tenant for one in self.blocks if one.look in (Look.USED, Look.SHARED)).most_common())


def kv_map(seen: JSONObject) -> KvMap:
    """The map of what the engine looked like at one moment (`ModelDesk.seen`)."""
    blocks = [_block(one) for one in seen["blocks"]]
    here = {one.tenant for one in blocks} | {one["tenant"] for one in seen["sequences"]}
    once = {one["tenant"] for one in seen["tenants"]}
    return KvMap(blocks=blocks, colours=colours(here - {""}, once - here))


def colours(here: Iterable[str], once: Iterable[str] = ()) -> dict[str, int]:
    """A colour for each tenant: its name's own, or the next that is free, so that it rarely changes as others come.

    Those who are `here` choose before those who only were, once.
    """
    given: dict[str, int] = {}
    for tenant in (*sorted(here), *sorted(once)):
        first, taken = crc32(tenant.encode("utf-8", "surrogatepass")) % COLOURS, set(given.values())
        ring = [(first + step) % COLOURS for step in range(COLOURS)]
        given[tenant] = next((colour for colour in ring if colour not in taken), first)
    return given


def block_title(block: Block) -> str:
    """One block in words."""
    match block.look:
        case Look.FREE:
            return "free"
        case Look.CACHED:
            return f"{block.tenant}: a cached prefix that nobody uses"
        case Look.USED:
            return f"{block.tenant}: in use"
        case Look.SHARED:
            return f"{block.tenant}: shared by {block.references} sequences"


def counts(map: KvMap) -> str:
    """The whole map in one sentence without names: for those who do not see it, and as its caption."""
    used, shared = map.count(Look.USED), map.count(Look.SHARED)
    return (
        f"{len(map.blocks)} blocks: {used + shared} in use, {shared} of them shared, "
        f"{map.count(Look.CACHED)} cached, {map.count(Look.FREE)} free"
    )


def prefix_rate(seen: JSONObject) -> float | None:
    """Which share of the prompt tokens looked up was found in the prefix cache; None before the first."""
    return seen["prefix_hits"] / seen["prefix_lookups"] if seen["prefix_lookups"] else None


def _block(one: JSONObject) -> Block:
    if one["is_cached"]:
        return Block(Look.CACHED, one["tenant"], 0)
    if not one["references"]:
        return Block(Look.FREE, "", 0)
    return Block(Look.SHARED if one["references"] > 1 else Look.USED, one["tenant"], one["references"])
