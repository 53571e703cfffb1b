"""What this machine allows: a decode step of one sequence against the bytes it reads, all of the workload against its
multiplications, both at rates measured in the same run.
"""

import statistics
import time
from dataclasses import dataclass

import torch

from bench.llm.ours import engine
from bench.llm.workload import NEW, OWN, REQUESTS, SHARED, TOKENS, request, text
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.panels import PanelLinear

CONTEXT = 256
STEPS = 32
_PROBE_ROWS = 256
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


def most_tokens(runner: ModelRunner) -> tuple[float, float]:
    """Of output in a processor second, sharing off and cold, if float32 linear layers were all there is and none were
    slower than the fastest of ours at its best.

    Prompts at the rate of multiplication, decode steps at the slower of that and of reading the weights.
    """
    layers = [module for module in runner.model.modules() if isinstance(module, PanelLinear)]
    head = runner.model.head
    inner = sum(layer.weight.numel() for layer in layers if layer is not head)
    every = sum(layer.weight.numel() for layer in layers)
    multiplied = max(_multiplied(layer) for layer in layers[:4])
    read = max(_rate(torch.ones(_PROBE_FLOATS)) for _ in range(8))
    step_s = max(4 * every / read, 2 * REQUESTS * every / multiplied)

    def tokens(prompt: int) -> float:
        return TOKENS / (2 * inner * prompt / multiplied + (NEW - 1) * step_s)

    return tokens(REQUESTS * (SHARED + OWN)), tokens(SHARED + REQUESTS * OWN)


@torch.inference_mode()
def _multiplied(layer: PanelLinear) -> float:
    """Floating-point operations a second, the best of some tries."""
    x = torch.randn(_PROBE_ROWS, layer.inputs)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        layer(x)
        best = min(best, time.perf_counter() - began)
    return 2 * _PROBE_ROWS * layer.weight.numel() / best


def _rate(probe: torch.Tensor) -> float:
    began = time.perf_counter()
    probe.sum()
    return probe.nbytes / (time.perf_counter() - began)
