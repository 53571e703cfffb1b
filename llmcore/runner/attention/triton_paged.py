"""Attention on a GPU in Triton: one kernel for prompts and decodes, straight from the blocks.

A program has a tile of rows of one sequence and one kv head, a row being (query, head of the group), so that the heads
that share keys read them once. A decode has few rows and may have many keys: these are split among programs, whose
parts a second kernel merges (flash-decoding; Dao et al., 2023). Softmax is online (Milakov and Gimelshein, 2018), in
base 2. Correctness is tested on any machine: `TRITON_INTERPRET=1` runs the kernels on CPU tensors.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import triton
from torch import Tensor

from llmcore.runner.attention.contract import Attend, Attention, AttentionBatch
from llmcore.runner.attention.triton_kernels import attend, keep, merge

COLUMNS: Final = 64
"""Keys that a program takes at a time."""
DECODE_ROWS: Final = 16
"""The fewest that a matrix unit multiplies."""
PREFILL_ROWS: Final = 64
SHORTEST_SPLIT: Final = 256
"""Keys: below it, merging costs more than it saves."""


def probe(
    device: torch.device,
    dtype: torch.dtype,
    cache_folder: Path,  # noqa: ARG001  Triton has a cache of its own
    progress: Callable[[str, float], None],  # noqa: ARG001
) -> Attention | str:
    """The path; the string says why it cannot run here."""
    if device.type != "cuda":
        return f"it is made for CUDA, not for {device.type}"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"it has no {dtype}"
    if torch.cuda.get_device_capability(device) < (7, 5):
        return f"{torch.cuda.get_device_name(device)} is older than Triton supports"
    return TritonAttention(torch.cuda.get_device_properties(device).multi_processor_count)


@dataclass(frozen=True, slots=True)
class TritonAttention:
    processors: int
    """Of the device: decodes are split until all are busy."""
    name: str = "triton"

    def prepare(self, batch: AttentionBatch) -> Attend:
        return _Step(self.processors, batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tiles:
    """One launch: for each tile its sequence and the first of its queries, int32."""

    sequence: Tensor
    first: Tensor
    rows: int
    splits: int
    span: int
    """Keys of a split."""


class _Step:
    """Prepared by its first layer, which shows the heads; the other layers are alike."""

    def __init__(self, processors: int, batch: AttentionBatch) -> None:
        self._processors = processors
        self._batch = batch
        self._launches: list[_Tiles] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        heads, kv_heads, head_dim = q.shape[1], keys.shape[1], q.shape[2]
        group = heads // kv_heads
        if not self._launches:
            self._launches = list(self._tiles(group, kv_heads, q.device))
        batch, width = self._batch, triton.next_power_of_2(head_dim)
        keep[(q.shape[0], kv_heads)](
            *(k, v, keys, values, batch.slots, k.stride(0), k.stride(1), v.stride(0), v.stride(1)),
            *(kv_heads, batch.block_size, head_dim, width),
        )
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for tiles in self._launches:
            parts, weights = out, out
            if tiles.splits > 1:
                parts = torch.empty((tiles.splits, *q.shape), dtype=torch.float32, device=q.device)
                weights = torch.empty((tiles.splits, q.shape[0], heads), dtype=torch.float32, device=q.device)
            attend[(len(tiles.sequence), kv_heads, tiles.splits)](
                *(q, keys, values, parts, weights, batch.block_tables, batch.context_lengths, batch.query_starts),
                *(tiles.sequence, tiles.first, q.stride(0), q.stride(1), batch.block_tables.stride(0)),
                *(q.shape[0], kv_heads, head_dim**-0.5 / math.log(2), tiles.span),
                *(group, batch.block_size, head_dim, width, tiles.rows, COLUMNS, tiles.splits > 1),
            )
            if tiles.splits > 1:  # decodes, which are the first tokens
                merge[(batch.num_decodes, heads)](
                    *(parts, weights, out, q.shape[0], heads, head_dim, width),
                    *(tiles.splits, triton.next_power_of_2(tiles.splits)),
                )
        return out

    def _tiles(self, group: int, kv_heads: int, device: torch.device) -> Iterator[_Tiles]:
        batch, decodes = self._batch, self._batch.num_decodes
        if decodes:
            longest = max(batch.contexts[:decodes])
            rows = max(DECODE_ROWS, triton.next_power_of_2(group))
            wanted = -(-2 * self._processors // (decodes * kv_heads))
            splits = max(1, min(wanted, longest // SHORTEST_SPLIT))
            span = -(-longest // (splits * COLUMNS)) * COLUMNS
            yield _tiles([(sequence, 0) for sequence in range(decodes)], rows, -(-longest // span), span, device)
        rows = max(PREFILL_ROWS, triton.next_power_of_2(group))
        starts = [
            (sequence, first)
            for sequence, queries in enumerate(batch.query_lengths[decodes:], decodes)
            for first in range(0, queries, rows // group)
        ]
        if starts:
            yield _tiles(starts, rows, 1, batch.max_context, device)


def _tiles(starts: list[tuple[int, int]], rows: int, splits: int, span: int, device: torch.device) -> _Tiles:
    sequence, first = torch.tensor(starts, dtype=torch.int32).T.contiguous().to(device)
    return _Tiles(sequence=sequence, first=first, rows=rows, splits=splits, span=span)
