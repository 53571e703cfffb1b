"""The oracle: keys and values are gathered into rows and torch attends. On every device, in every dtype."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from llmcore.runner.attention.contract import Attend, AttentionBatch


@dataclass(frozen=True, slots=True)
class ReferenceAttention:
    name: str = "reference"

    def prepare(self, batch: AttentionBatch) -> Attend:
        return _Step(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Sequences that are attended in one call: all decodes, or one prefill."""

    tokens: slice
    """Of the step."""
    queries: int
    """Of each sequence."""
    rows: Tensor
    """int64 `(sequences, kv_heads, context)`: where in the cache their keys lie, heads and slots counted through.
    Padded with the sequence's own first, so that what others left in the cache, be it no number, has no part in the
    result."""
    mask: Tensor
    """Added to the scores, `(sequences, 1, groups * queries, context)`; for decodes of every query head the same."""


class _Step:
    """Prepared by its first layer, which shows heads and dtype; the other layers are alike."""

    def __init__(self, batch: AttentionBatch) -> None:
        self._batch = batch
        self._new = torch.empty(0)
        self._groups: list[_Group] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        _, kv_heads, _, head_dim = keys.shape
        if not self._groups:
            self._new = _rows(self._batch.slots, kv_heads, self._batch.block_size).reshape(-1)
            self._groups = list(_groups(self._batch, q, kv_heads))
        flat_keys, flat_values = keys.view(-1, head_dim), values.view(-1, head_dim)
        flat_keys.index_copy_(0, self._new, k.transpose(0, 1).reshape(-1, head_dim))
        flat_values.index_copy_(0, self._new, v.transpose(0, 1).reshape(-1, head_dim))
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for group in self._groups:
            rows, shape = group.rows.reshape(-1), (*group.rows.shape, head_dim)
            attended = functional.scaled_dot_product_attention(
                _folded(q[group.tokens], kv_heads, group.queries),
                flat_keys.index_select(0, rows).view(shape),
                flat_values.index_select(0, rows).view(shape),
                attn_mask=group.mask,
            )
            out[group.tokens] = _unfolded(attended, group.queries)
        return out


def _groups(batch: AttentionBatch, q: Tensor, kv_heads: int) -> Iterator[_Group]:
    decodes = batch.num_decodes
    if decodes:
        yield _group(batch, q, kv_heads, slice(0, decodes), slice(0, decodes))
    first = decodes
    for sequence, queries in enumerate(batch.query_lengths[decodes:], decodes):
        yield _group(batch, q, kv_heads, slice(sequence, sequence + 1), slice(first, first + queries))
        first += queries


def _group(batch: AttentionBatch, q: Tensor, kv_heads: int, sequences: slice, tokens: slice) -> _Group:
    queries = batch.query_lengths[sequences.start]
    lengths = batch.context_lengths[sequences].long().view(-1, 1)
    context = torch.arange(max(batch.contexts[sequences]), device=q.device)
    place = torch.where(context < lengths, context, 0)
    blocks = batch.block_tables[sequences].long().gather(1, place // batch.block_size)
    slots = blocks * batch.block_size + place % batch.block_size
    seen = lengths.view(-1, 1, 1) - queries + 1 + torch.arange(queries, device=q.device).view(1, -1, 1)
    hidden = context.view(1, 1, -1) >= seen
    mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, float("-inf"))
    rows = _rows(slots, kv_heads, batch.block_size)
    repeats = 1 if queries == 1 else q.shape[1] // kv_heads
    return _Group(tokens=tokens, queries=queries, rows=rows, mask=mask.repeat(1, repeats, 1).unsqueeze(1))


def _rows(slots: Tensor, kv_heads: int, block_size: int) -> Tensor:
    """Slots `(..., n)` as rows `(..., kv_heads, n)` of a cache seen as `(blocks * kv_heads * block_size, head_dim)`."""
    heads = torch.arange(kv_heads, device=slots.device).view(-1, 1)
    slots = slots.unsqueeze(-2)
    return (slots // block_size * kv_heads + heads) * block_size + slots % block_size


def _folded(q: Tensor, kv_heads: int, queries: int) -> Tensor:
    """`(sequences * queries, heads, dim)` as `(sequences, kv_heads, groups * queries, dim)`: the query heads that share
    a key head become more queries of it, so no key is repeated."""
    _, heads, dim = q.shape
    parted = q.reshape(-1, queries, kv_heads, heads // kv_heads, dim)
    return parted.permute(0, 2, 3, 1, 4).reshape(-1, kv_heads, heads // kv_heads * queries, dim)


def _unfolded(out: Tensor, queries: int) -> Tensor:
    sequences, kv_heads, folded, dim = out.shape
    parted = out.view(sequences, kv_heads, folded // queries, queries, dim)
    return parted.permute(0, 3, 1, 2, 4).reshape(sequences * queries, kv_heads * (folded // queries), dim)
