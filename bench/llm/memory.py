"""A decode step of one sequence against what memory allows: the bytes it must read, at the rate that was measured."""

import statistics
import time
from dataclasses import dataclass

import torch

from bench.llm.ours import engine
from bench.llm.workload import request, text
from llmcore.runner.model_runner import ModelRunner

CONTEXT = 256
STEPS = 32
_PROBE_FLOATS = 48 * 1024 * 1024
"""192 MiB: far more than any cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    step_s: float
    bytes_read: int
    """Weights that a token is multiplied with, and the keys and values before it."""
    rate: float
    """Bytes a second, measured: a sum over a large array, by as many threads."""

    @property
    def to_limit(self) -> float:
        return self.step_s / (self.bytes_read / self.rate)


def measure(runner: ModelRunner) -> Decode:
    turned = engine(runner, prefix_cache=False)
    assert turned.submit(request("decode", text(1, CONTEXT), STEPS + 8)) is None
    times, rates, probe = [], [], torch.ones(_PROBE_FLOATS)
    for number in range(STEPS + 8):
        began = time.perf_counter()
        turned.step()
        if number >= 8:  # the first are the prompt, and what warms up
            times.append(time.perf_counter() - began)
        if number % 8 == 7:
            rates.append(_rate(probe))
    turned.cancel("decode")
    linears = [module for module in runner.model.modules() if hasattr(module, "outputs")]
    weights = sum(buffer.nbytes for module in linears for buffer in module.buffers(recurse=False))
    shape = runner.shape
    kv = 2 * shape.layers * shape.kv_heads * shape.head_dim * shape.kv_bytes * (CONTEXT + STEPS // 2 + 8)
    return Decode(step_s=statistics.median(times), bytes_read=weights + kv, rate=max(rates))


def _rate(probe: torch.Tensor) -> float:
    began = time.perf_counter()
    probe.sum()
    return probe.nbytes / (time.perf_counter() - began)
