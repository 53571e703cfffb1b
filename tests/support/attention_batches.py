"""Steps for paths of attention, beside the oracle: ragged lengths, scattered blocks, slots that hold no number."""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from llmcore.runner.attention import Attention, AttentionBatch
from llmcore.runner.attention.reference import ReferenceAttention

AXES: dict[str, Sequence[Any]] = {
    "head_dim": (64, 128),
    "heads": ((4, 4), (9, 3), (8, 1), (12, 2)),
    "block_size": (16, 5, 32),
    "lengths": (
        ((1, 1, 1), (1, 33, 700)),
        ((1, 7, 40), (64, 7, 90)),
        ((70,), (130,)),
        ((1, 1, 64, 65), (64, 128, 64, 129)),
        ((1, 1, 1, 5, 33), (16, 17, 259, 5, 97)),
    ),
}
"""`lengths` are the queries of each sequence, decodes first, and its context with them."""


def pairwise(axes: dict[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Few cases in which any two values of two axes meet."""
    names = list(axes)
    missing = {
        (a, x, b, y)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        for x, y in product(range(len(axes[a])), range(len(axes[b])))
    }
    everything = list(product(*(range(len(axes[name])) for name in names)))
    random.Random(seed).shuffle(everything)
    chosen = []
    while missing:
        best = max(everything, key=lambda case: len(missing & _pairs(names, case)))
        missing -= _pairs(names, best)
        chosen.append({name: axes[name][place] for name, place in zip(names, best, strict=True)})
    return chosen


def _pairs(names: list[str], case: Sequence[int]) -> set[tuple[str, int, str, int]]:
    return {(names[i], case[i], names[j], case[j]) for i in range(len(names)) for j in range(i + 1, len(names))}


def step(
    queries: Sequence[int], contexts: Sequence[int], block_size: int, device: str = "cpu"
) -> tuple[AttentionBatch, int]:
    """Blocks in no order, and how many a cache must have."""
    needed = [-(-context // block_size) for context in contexts]
    order = torch.randperm(sum(needed) + 3).tolist()
    tables = torch.zeros(len(queries), max(needed), dtype=torch.int32)
    slots = []
    for row, (count, context) in enumerate(zip(queries, contexts, strict=True)):
        blocks = [order.pop() for _ in range(needed[row])]
        tables[row, : needed[row]] = torch.tensor(blocks)
        slots += [blocks[at // block_size] * block_size + at % block_size for at in range(context - count, context)]
    starts = torch.tensor([0, *queries]).cumsum(0, dtype=torch.int32)
    batch = AttentionBatch(
        num_decodes=sum(count == 1 for count in queries),
        query_starts=starts.to(device),
        context_lengths=torch.tensor(contexts, dtype=torch.int32, device=device),
        block_tables=tables.to(device),
        slots=torch.tensor(slots, device=device),
        block_size=block_size,
        query_lengths=tuple(queries),
        contexts=tuple(contexts),
    )
    return batch, sum(needed) + 3


def furthest(
    attention: Attention,
    *,
    head_dim: int,
    heads: tuple[int, int],
    block_size: int,
    lengths: tuple[Sequence[int], Sequence[int]],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> float:
    """How far the path's worst number is from the oracle's, which computes the same in float32.

    Raises:
        AssertionError: the caches differ after it.
    """
    batch, num_blocks = step(*lengths, block_size, device)
    every, of_keys = heads
    qkv = torch.randn(sum(lengths[0]), every + 2 * of_keys, head_dim, device=device).to(dtype)
    q, k, v = qkv[:, :every], qkv[:, every : every + of_keys], qkv[:, every + of_keys :]
    keys, values = (_cache(batch, num_blocks, of_keys, head_dim, dtype) for _ in range(2))
    oracle = (q.float(), k.float(), v.float(), keys.float(), values.float())
    found = attention.prepare(batch)(q, k, v, keys, values)
    right = ReferenceAttention().prepare(batch)(*oracle)
    assert torch.equal(keys.float().nan_to_num(), oracle[3].nan_to_num())
    assert torch.equal(values.float().nan_to_num(), oracle[4].nan_to_num())
    assert found.shape == right.shape
    assert found.is_contiguous()
    return (found.float() - right).abs().max().item()


def _cache(batch: AttentionBatch, num_blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> Tensor:
    """What came before is there; what nobody wrote is no number, so that reading it shows."""
    cache = torch.full((num_blocks, kv_heads, batch.block_size, head_dim), float("nan"), dtype=dtype)
    for table, context in zip(batch.block_tables.tolist(), batch.contexts, strict=True):
        for at in range(context):
            cache[table[at // batch.block_size], :, at % batch.block_size] = torch.randn(kv_heads, head_dim)
    return cache.to(batch.block_tables.device)
