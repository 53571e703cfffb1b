"""Attention on a CPU in C++ (`native/attention.cpp`): from the blocks as they lie, gathering nothing."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llmcore.runner.attention.contract import Attend, Attention, AttentionBatch
from llmcore.runner.attention.reference import ReferenceAttention
from llmcore.runner.native import Kernels, kernels


def probe(
    device: torch.device, dtype: torch.dtype, cache_folder: Path, progress: Callable[[str, float], None]
) -> Attention | str:
    """The path; the string says why it cannot run here."""
    if device.type != "cpu" or dtype is not torch.float32:
        return f"it is made for float32 on a CPU, not for {dtype} on {device.type}"
    found = kernels(cache_folder, progress)
    return found if isinstance(found, str) else CpuAttention(found)


@dataclass(frozen=True, slots=True)
class CpuAttention:
    kernels: Kernels
    name: str = "cpu"

    def prepare(self, batch: AttentionBatch) -> Attend:
        return _Step(self.kernels, batch)


class _Batch(ctypes.Structure):
    """`Step` of the source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query_starts", "contexts", "tables", "slots")),
        *((name, ctypes.c_int64) for name in ("num_sequences", "num_tokens", "max_blocks", "block_size", "threads")),
    )


class _Layer(ctypes.Structure):
    """`Layer` of the source."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "keys", "values", "out")),
        *(
            (name, ctypes.c_int64)
            for name in (
                *("q_token", "q_head", "k_token", "k_head", "v_token", "v_head"),
                *("heads", "kv_heads", "head_dim"),
            )
        ),
    )


class _Step:
    def __init__(self, kernels: Kernels, batch: AttentionBatch) -> None:
        self._run = kernels.paged_attention
        self._batch = batch
        self._tables = batch.block_tables.contiguous()  # kept: the struct below holds its bare address
        self._step = _Batch(
            batch.query_starts.data_ptr(),
            batch.context_lengths.data_ptr(),
            self._tables.data_ptr(),
            batch.slots.data_ptr(),
            *(len(batch.contexts), len(batch.slots), self._tables.shape[1], batch.block_size),
            torch.get_num_threads(),
        )
        self._where = ctypes.addressof(self._step)
        self._otherwise: Attend | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype)
        layer = _Layer(
            *(q.data_ptr(), k.data_ptr(), v.data_ptr(), keys.data_ptr(), values.data_ptr(), out.data_ptr()),
            *(q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1)),
            *(q.shape[1], k.shape[1], q.shape[2]),
        )
        if self._run(self._where, ctypes.addressof(layer)) == 0:
            return out
        if self._otherwise is None:  # heads of a size that the source has no code for
            self._otherwise = ReferenceAttention().prepare(self._batch)
        return self._otherwise(q, k, v, keys, values)
