"""What `pratique llm top` draws: figures, the model's memory block by block, its sequences, its tenants.

Names come from agents: they are shown inert, and none of them is markup.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.cli.show import inert, plain
from gateway.edges.kvmap import Block, KvMap, Look, counts, kv_map, prefix_rate
from policies.jsonvalue import JSONObject

PALETTE = (
    *("blue", "dark_orange", "green", "red", "medium_purple", "orange4"),
    *("hot_pink", "dark_olive_green3", "cyan", "slate_blue1", "yellow", "grey62"),
)
"""A terminal colour for each of the map's (`gateway.edges.kvmap.COLOURS`)."""
SIGNS = {Look.USED: "■", Look.SHARED: "▣", Look.CACHED: "□", Look.FREE: "·"}
MOST_SIGNS = 2_000
"""Signs of a map; of more blocks each stands for several."""
MOST_ROWS = 40
"""Rows of each table; `--json` has all."""


def screen(seen: JSONObject, width: int) -> Group:
    """One moment of the engine, for a terminal `width` columns wide."""
    map = kv_map(seen)
    return Group(
        *_header(seen),
        Text(),
        *_map_lines(map, width),
        Text(),
        _table(_SEQUENCES, [_sequence(map, one) for one in seen["sequences"]], "no request"),
        Text(),
        _table(_TENANTS, [_tenant(map, one) for one in seen["tenants"]], "no tenant has asked yet"),
    )


def _header(seen: JSONObject) -> Iterator[Text]:
    rate = prefix_rate(seen)
    found = "nothing looked up" if rate is None else f"{rate:.0%} found"
    yield Text.assemble(
        (plain(seen["model"]), "bold"),
        f"  {plain(seen['policy'])}, in a {plain(seen['isolation'])}, window {seen['window']} tokens",
    )
    yield Text(
        f"{seen['tokens_per_s']:.1f} tokens/s  {seen['steps']} steps  {seen['preemptions']} preemptions"
        f"  {seen['refused']} refused"
    )
    yield Text(f"prefix cache {found}  swapped out {seen['host_blocks_used']} of {seen['host_blocks']} blocks")


def _map_lines(map: KvMap, width: int) -> Iterator[Text]:
    """The map, left to right and then down, and what its signs mean."""
    each = max(1, -(-len(map.blocks) // MOST_SIGNS))
    signs = [_sign(map, map.blocks[first : first + each]) for first in range(0, len(map.blocks), each)]
    columns = max(1, width)
    for first in range(0, len(signs), columns):
        yield Text.assemble(*signs[first : first + columns])
    yield Text(counts(map) + (f"; each sign stands for {each}" if each > 1 else ""), style="dim")
    yield Text.assemble(
        f"{SIGNS[Look.USED]} in use  {SIGNS[Look.SHARED]} shared  {SIGNS[Look.CACHED]} cached  ",
        (f"{SIGNS[Look.FREE]} free", "dim"),
    )


def _sign(map: KvMap, blocks: Sequence[Block]) -> tuple[str, str]:
    """What most of these blocks are, as a sign and its style."""
    block = Counter(blocks).most_common(1)[0][0]
    colour = _colour(map, block.tenant)
    return SIGNS[block.look], {Look.FREE: "dim", Look.CACHED: f"dim {colour}".strip()}.get(block.look, colour)


def _colour(map: KvMap, tenant: str) -> str:
    return PALETTE[map.colours[tenant]] if tenant in map.colours else ""


_SEQUENCES = ("request", "tenant", "state", "prompt", "computed", "output", "blocks", "waited", "preempted")
_TENANTS = ("tenant", "service", "prompt tokens", "output tokens", "block-seconds", "blocks", "waiting", "running")


def _sequence(map: KvMap, one: JSONObject) -> tuple[Text, ...]:
    name = f"{one['request']}#{one['index']}" if one["index"] else one["request"]
    return (
        inert(name),
        _name(map, one["tenant"]),
        inert(one["state"]),
        *_numbers(one, "prompt_tokens", "computed", "output_tokens", "blocks"),
        Text(f"{one['waited_s']:.1f} s"),
        *_numbers(one, "preemptions"),
    )


def _tenant(map: KvMap, one: JSONObject) -> tuple[Text, ...]:
    return (
        _name(map, one["tenant"]),
        Text(f"{one['service']:.0f}"),
        *_numbers(one, "prefill_tokens", "decode_tokens"),
        Text(f"{one['block_seconds']:.1f}"),
        Text(str(map.held.get(one["tenant"], 0))),
        *_numbers(one, "waiting", "running"),
    )


def _name(map: KvMap, tenant: str) -> Text:
    return Text(plain(tenant), style=_colour(map, tenant))


def _numbers(one: JSONObject, *names: str) -> Iterator[Text]:
    return (Text(str(one[name])) for name in names)


def _table(columns: Sequence[str], rows: Sequence[tuple[Text, ...]], empty: str) -> Table | Text:
    if not rows:
        return Text(empty, style="dim")
    more = f"and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else None
    table = Table(box=None, pad_edge=False, caption=more, caption_justify="left")
    for column in columns:
        is_text = column in {"request", "tenant", "state"}
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    return table
