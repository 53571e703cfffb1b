"""A step's chunks as tensors: tokens one behind the other, and where each sequence's keys and values lie."""

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmcore.plan import Chunk
from llmcore.runner.attention import AttentionBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    tokens: Tensor
    """int64 `(num_tokens,)`."""
    positions: Tensor
    """int64 `(num_tokens,)`: of each in its sequence."""
    attention: AttentionBatch
    ends: tuple[int, ...]
    """Of each chunk, its last token in the step."""


def pack(chunks: Many[Chunk], block_size: int, device: torch.device) -> Packed:
    """Chunks of a single token come first."""
    lengths = tuple(chunk.count for chunk in chunks)
    contexts = tuple(chunk.start + chunk.count for chunk in chunks)
    starts = np.zeros(len(chunks) + 1, dtype=np.int32)
    np.cumsum(lengths, out=starts[1:])
    tables = np.zeros((len(chunks), max(-(-context // block_size) for context in contexts)), dtype=np.int32)
    tokens = np.empty(starts[-1], dtype=np.int64)
    positions = np.empty(starts[-1], dtype=np.int64)
    slots = np.empty(starts[-1], dtype=np.int64)
    for row, chunk in enumerate(chunks):
        here = slice(starts[row], starts[row + 1])
        end = chunk.start + chunk.count
        blocks = chunk.sequence.blocks[: -(-end // block_size)]
        tables[row, : len(blocks)] = blocks
        tokens[here] = chunk.sequence.tokens[chunk.start : end]
        positions[here] = np.arange(chunk.start, end)
        slots[here] = tables[row, positions[here] // block_size] * block_size + positions[here] % block_size
    batch = AttentionBatch(
        num_decodes=sum(1 for length in lengths if length == 1),
        query_starts=torch.from_numpy(starts).to(device),
        context_lengths=torch.tensor(contexts, dtype=torch.int32, device=device),
        block_tables=torch.from_numpy(tables).to(device),
        slots=torch.from_numpy(slots).to(device),
        block_size=block_size,
        query_lengths=lengths,
        contexts=contexts,
    )
    return Packed(
        tokens=torch.from_numpy(tokens).to(device),
        positions=torch.from_numpy(positions).to(device),
        attention=batch,
        ends=tuple(int(end) - 1 for end in starts[1:]),
    )
