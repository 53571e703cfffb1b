"""Blocks that are copied, swapped, read and written."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmcore.errors import ModelError
from llmcore.plan import Shape
from llmcore.runner.kv_cache import KvCache

SHAPE = Shape(name="s", digest="", vocabulary=8, window=64, layers=3, kv_heads=2, head_dim=4, kv_bytes=4)


def cache(num_blocks: int = 6, host_blocks: int = 3, dtype: torch.dtype = torch.float32) -> KvCache:
    """Each number in it another."""
    made = KvCache(
        SHAPE,
        num_blocks=num_blocks,
        host_blocks=host_blocks,
        block_size=4,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    for place, half in enumerate(half for layer in made.layers for half in layer):
        half.copy_(torch.arange(half.numel()).view(half.shape) + 1000 * place)
    return made


def block(of: KvCache, number: int) -> list[Tensor]:
    """What one block holds in every layer."""
    return [half[number].clone() for layer in of.layers for half in layer]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_a_copy_is_of_every_layer_and_touches_no_other_block() -> None:
    made = cache()
    before = [block(made, number) for number in range(6)]

    made.copy([(1, 4), (2, 5)])

    assert same(block(made, 4), before[1])
    assert same(block(made, 5), before[2])
    assert all(same(block(made, number), before[number]) for number in range(4))


def test_what_was_swapped_out_comes_back_into_other_blocks() -> None:
    made = cache()
    two, three = block(made, 2), block(made, 3)

    made.swap_out([(2, 0), (3, 2)])
    made.copy([(0, 2), (0, 3)])
    made.swap_in([(0, 5), (2, 1)])

    assert same(block(made, 5), two)
    assert same(block(made, 1), three)


@given(st.lists(st.integers(0, 5), unique=True, max_size=6), st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_was_read_can_be_written_into_another_cache(blocks: list[int], dtype: torch.dtype) -> None:
    made = cache(dtype=dtype)

    data = made.read(blocks, [4] * len(blocks))
    other = cache(num_blocks=9, dtype=dtype)
    other.write([8 - number for number in blocks], data)

    assert len(data) == len(blocks) * SHAPE.block_bytes(4) // 4 * dtype.itemsize
    assert all(same(block(other, 8 - number), block(made, number)) for number in blocks)


@pytest.mark.promise("llm.snapshot-its-own")
def test_what_another_left_behind_a_blocks_filled_slots_is_not_read() -> None:
    made = cache()

    other = cache()
    other.write([0, 1], made.read([2, 3], [4, 1]))

    assert same(block(other, 0), block(made, 2))
    for mine, theirs in zip(block(made, 3), block(other, 1), strict=True):
        assert torch.equal(mine[:, :1], theirs[:, :1])
        assert not theirs[:, 1:].any()
        assert mine[:, 1:].any()


def test_bytes_of_another_length_are_not_written() -> None:
    with pytest.raises(ValueError, match="2 blocks"):
        cache().write([0, 1], b"short")


def test_its_size_is_what_the_shape_says() -> None:
    made = cache()

    held = sum(half.nbytes for layer in made.layers for half in layer)

    assert held == 6 * SHAPE.block_bytes(4)


def test_room_for_less_than_a_block_is_said() -> None:
    with pytest.raises(ModelError, match=r"one block of 4 tokens takes 768 bytes .* room for none"):
        cache(num_blocks=0)
