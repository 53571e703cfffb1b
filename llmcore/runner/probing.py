"""What this machine runs best: its device, a dtype for it, and a path of attention."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import torch

from llmcore.errors import ModelError
from llmcore.runner.attention import Attention
from llmcore.runner.attention.reference import ReferenceAttention

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""What is being done, and how much of it is: 0 to 1."""

DTYPES: Final = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def choose_device(wanted: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        ModelError: it is no device, or not here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ModelError(f"{wanted!r} is no device: say auto, cpu, cuda, or cuda:0 and so on")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"the device {wanted} is not here: {torch.cuda.device_count()} CUDA devices are; auto takes what is"
        )
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is what the device multiplies fastest without another's help: half precision on CUDA, fp32 on a CPU.

    Raises:
        ModelError: it is none of `DTYPES`, or bfloat16 on a CPU that would emulate it.
    """
    if wanted == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if wanted not in DTYPES:
        raise ModelError(f"{wanted!r} is no dtype of ours: say auto, {', '.join(DTYPES)}")
    dtype = DTYPES[wanted]
    if dtype is torch.bfloat16 and device.type == "cpu" and not _multiplies_bf16():
        raise ModelError(
            "this CPU has neither AVX-512 BF16 nor AMX, so bfloat16 would be about five times slower than float32: "
            "say float32"
        )
    return dtype


def choose_attention(
    wanted: str, device: torch.device, dtype: torch.dtype, cache_folder: Path, progress: Progress
) -> Attention:
    """`auto`: the first path that can run here, the reference after all others.

    Raises:
        ModelError: a path was named that cannot run here.
    """
    if wanted == "reference":
        return ReferenceAttention()
    for name, probe in _paths(device):
        if wanted not in ("auto", name):
            continue
        found = probe(device, dtype, cache_folder, progress)
        if not isinstance(found, str):
            return found
        if wanted == name:
            raise ModelError(f"the attention path {name} cannot run here: {found}")
        logger.info("attention path not taken", extra={"path": name, "reason": found})
    if wanted != "auto":
        raise ModelError(f"{wanted!r} is no attention path for {device.type}")
    return ReferenceAttention()


Probe = Callable[[torch.device, torch.dtype, Path, Progress], Attention | str]


def _paths(device: torch.device) -> Iterator[tuple[str, Probe]]:
    """Imported only where they may be used: one needs a compiler's cache, the other a GPU's."""
    if device.type == "cpu":
        from llmcore.runner.attention import cpu  # noqa: PLC0415

        yield "cpu", cpu.probe
    else:
        from llmcore.runner.attention import triton_paged  # noqa: PLC0415

        yield "triton", triton_paged.probe


def _multiplies_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
