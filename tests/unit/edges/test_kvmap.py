"""The KV map: what each block looks like, whose colour it has, and how it is drawn."""

import re

from hypothesis import given
from hypothesis import strategies as st
from support.scripted_model import FREE, block, cached, seen

from gateway.edges.console.kvdrawing import COLUMNS, STEP, drawing_of
from gateway.edges.kvmap import COLOURS, Block, Look, block_title, colours, counts, kv_map, prefix_rate

BLOCKS = st.lists(
    st.one_of(
        st.just(FREE),
        st.builds(block, st.sampled_from("abc"), st.integers(1, 3)),
        st.builds(cached, st.sampled_from("abc")),
    ),
    max_size=200,
)


def test_a_block_is_free_cached_in_use_or_shared() -> None:
    map = kv_map(seen(blocks=(FREE, cached("a"), block("a"), block("a", 3))))

    assert [one.look for one in map.blocks] == [Look.FREE, Look.CACHED, Look.USED, Look.SHARED]
    assert [block_title(one) for one in map.blocks] == [
        "free",
        "a: a cached prefix that nobody uses",
        "a: in use",
        "a: shared by 3 sequences",
    ]
    assert counts(map) == "4 blocks: 2 in use, 1 of them shared, 1 cached, 1 free"
    assert map.held == {"a": 2}


@given(st.sets(st.text(max_size=5), max_size=COLOURS))
def test_tenants_have_different_colours_as_long_as_there_are_enough(tenants: set[str]) -> None:
    given = colours(tenants)

    assert given.keys() == tenants
    assert len(set(given.values())) == len(tenants)


@given(st.sets(st.text(max_size=3), min_size=COLOURS, max_size=40))
def test_more_tenants_than_colours_share_them(tenants: set[str]) -> None:
    assert set(colours(tenants).values()) == set(range(COLOURS))


def test_a_tenant_keeps_its_colour_when_the_others_go() -> None:
    alone = {name: colours([name])[name] for name in ("ann", "bob", "cy")}

    assert len(set(alone.values())) == 3, "the example has no names of one colour"
    assert colours(["ann", "bob", "cy"]) == alone


@given(st.sets(st.text(min_size=1, max_size=3), max_size=40))
def test_those_who_have_gone_change_nobodys_colour(gone: set[str]) -> None:
    here = {"ann", "bob", "cy"}

    assert colours(here, gone - here).items() >= colours(here).items()


@given(BLOCKS)
def test_every_block_is_drawn_once_at_its_place(blocks: list[Block]) -> None:
    map = kv_map(seen(blocks=tuple(blocks)))
    drawing = drawing_of(map)

    drawn = [
        (int(y) // STEP * COLUMNS + int(x) // STEP, shape.title)
        for shape in drawing.shapes
        for x, y in re.findall(r"M(\d+) (\d+)h", shape.path)
    ]
    assert sorted(drawn) == [(place, block_title(one)) for place, one in enumerate(map.blocks)]
    assert sum(shape.blocks for shape in drawing.shapes) == len(blocks)
    assert (drawing.width, drawing.height) == (min(len(blocks), COLUMNS) * STEP, -(-len(blocks) // COLUMNS) * STEP)


def test_blocks_that_look_the_same_are_one_element_with_their_tenants_colour() -> None:
    map = kv_map(seen(blocks=(block("a"),) * 20_000 + (FREE,) * 10_000))

    used, free = drawing_of(map).shapes
    assert (used.style, used.blocks) == (f"used t{map.colours['a']}", 20_000)
    assert (free.style, free.blocks) == ("free", 10_000)


def test_the_prefix_rate_is_nothing_before_the_first_look() -> None:
    assert prefix_rate(seen()) == 0.75
    assert prefix_rate(seen(prefix_hits=0, prefix_lookups=0)) is None
