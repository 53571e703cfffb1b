"""What a path of attention gets and gives.

Once a step: `attend = attention.prepare(batch)`. Then once a layer: `out = attend(q, k, v, keys, values)`, which stores
the step's new keys and values in the cache and attends over all that each sequence has, itself included.

A faster path offers `probe(device, dtype, cache_folder, progress) -> Attention | str`; the string says why it cannot
run here, and the next one is asked.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBatch:
    """Who attends to what in one step: tensors on the model's device, and the same numbers on the host where a path
    plans with them. Sequences that run a single token come first.

    `num_sequences` is of this step, `num_tokens` is the sum of its queries.
    """

    num_decodes: int
    """The first so many sequences have one query each; so the first so many tokens are theirs."""
    query_starts: Tensor
    """int32 `(num_sequences + 1,)`: the queries of sequence `i` are the tokens `[query_starts[i],
    query_starts[i + 1])`; they are its last ones, so query `j` of `m` sees the first
    `context_lengths[i] - m + j + 1` keys."""
    context_lengths: Tensor
    """int32 `(num_sequences,)`: keys of each sequence, those of this step included."""
    block_tables: Tensor
    """int32 `(num_sequences, max_blocks)`, padded with 0: block `b` of sequence `i` holds its tokens
    `[b * block_size, (b + 1) * block_size)`."""
    slots: Tensor
    """int64 `(num_tokens,)`: where a token's keys and values go, `block * block_size + slot`."""
    block_size: int
    query_lengths: tuple[int, ...]
    """On the host, of each sequence."""
    contexts: tuple[int, ...]
    """On the host: `context_lengths`."""

    @property
    def max_query(self) -> int:
        return max(self.query_lengths)

    @property
    def max_context(self) -> int:
        return max(self.contexts)


class Attend(Protocol):
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One layer of the prepared step; scores are scaled by `head_dim ** -0.5`.

        Args:
            q: `(num_tokens, heads, head_dim)`, rotated; any strides, the last dimension contiguous. Query head `h`
                reads key head `h // (heads // kv_heads)`.
            k, v: `(num_tokens, kv_heads, head_dim)`, of this step, k rotated; any strides, the last dimension
                contiguous.
            keys, values: `(num_blocks, kv_heads, block_size, head_dim)`, contiguous: this layer's cache, written in
                place before anything is read.

        Returns:
            `(num_tokens, heads, head_dim)`, contiguous.
        """
        ...


class Attention(Protocol):
    @property
    def name(self) -> str:
        """For the log and the benches."""
        ...

    def prepare(self, batch: AttentionBatch) -> Attend:
        """Once a step: whatever all layers share."""
        ...
