"""What is found is what was put there: same domain, same beginning, same tokens."""

from hypothesis import given
from hypothesis import strategies as st

from llmcore.block_pool import BlockPool
from llmcore.prefix_cache import PrefixCache

ids = st.tuples(st.integers(0, 2), st.integers(0, 2))
chains = st.tuples(st.sampled_from(["x", "y"]), st.lists(ids, min_size=1, max_size=3))


def made(num_blocks: int = 64) -> tuple[BlockPool, PrefixCache]:
    pool = BlockPool(num_blocks, clock=lambda: 0.0)
    return pool, PrefixCache(pool)


def enter(pool: BlockPool, cache: PrefixCache, domain: str, pieces: list[tuple[int, ...]]) -> list[int]:
    table: list[int] = []
    for piece in pieces:
        parent = cache.after(table[-1]) if table else domain
        table.append(cache.enter((parent, piece), pool.allocate()))
    return table


@given(st.lists(chains, max_size=8), chains)
def test_the_longest_known_prefix_is_found_and_no_more(known: list[tuple[str, list]], asked: tuple[str, list]) -> None:
    pool, cache = made()
    for domain, pieces in known:
        enter(pool, cache, domain, pieces)
    domain, pieces = asked

    found = cache.match(domain, pieces)

    prefixes = {(name, tuple(each[:length])) for name, each in known for length in range(1, len(each) + 1)}
    longest = max((n for n in range(1, len(pieces) + 1) if (domain, tuple(pieces[:n])) in prefixes), default=0)
    assert len(found) == longest


def test_tokens_of_one_hash_are_told_apart() -> None:
    twin = (1 << 61) - 1  # hash(n) is n modulo this
    assert hash((0, 5)) == hash((twin, twin + 5))
    pool, cache = made()
    enter(pool, cache, "x", [(0, 5)])

    assert cache.match("x", [(twin, twin + 5)]) == []
    assert len(cache.match("x", [(0, 5)])) == 1


def test_no_domain_finds_what_another_has() -> None:
    pool, cache = made()
    enter(pool, cache, "x", [(1, 2), (3, 4)])

    assert cache.match("y", [(1, 2), (3, 4)]) == []


def test_a_chain_is_not_continued_from_a_block_that_was_given_to_somebody_else() -> None:
    pool, cache = made(2)
    first, second = enter(pool, cache, "x", [(1, 2), (3, 4)])
    pool.release(first)  # out of order, as the engine never does: the beginning is given up first
    again = cache.enter(("y", (1, 2)), pool.allocate())
    assert again == first

    assert cache.match("x", [(1, 2), (3, 4)]) == []
    assert cache.match("y", [(1, 2), (3, 4)]) == [first]
    assert second in cache


def test_what_is_computed_twice_stands_once() -> None:
    pool, cache = made()
    (first,) = enter(pool, cache, "x", [(1, 2)])

    assert enter(pool, cache, "x", [(1, 2)]) == [first]
    assert len(cache) == 1
