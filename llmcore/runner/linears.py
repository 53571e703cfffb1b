"""Which linear layers a model multiplies with here: torch's own, panels of float32, or int8."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from llmcore.errors import ModelError
from llmcore.runner.models import Decoder
from llmcore.runner.native import kernels
from llmcore.runner.panels import PanelLinear
from llmcore.runner.quantize import Int8Linear


def arrange(
    model: Decoder,
    quantize: str | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    cache_folder: Path,
    progress: Callable[[str, float], None],
) -> None:
    """Replace the model's linear layers, its head among them, by the fastest of this machine, or by int8 where asked.

    Raises:
        ModelError: int8 was asked for where there is none.
    """
    if quantize not in (None, "int8"):
        raise ModelError(f"{quantize!r} is no way to store weights: say int8, or nothing")
    if device.type != "cpu" or dtype is not torch.float32:
        if quantize is not None:
            raise ModelError(f"int8 weights are for CPUs and float32, not for {dtype} on {device.type}")
        return
    found = kernels(cache_folder, progress)
    if not isinstance(found, str):
        layer = PanelLinear if quantize is None else Int8Linear
        _replace(model, lambda weight, bias: layer(found, weight, bias))
    elif quantize is not None:
        raise ModelError(f"int8 weights need compiled kernels: {found}; install g++ and ninja, or say float32")


def _replace(model: Decoder, made: Callable[[Tensor, Tensor | None], nn.Module]) -> None:
    """A tied head becomes a layer of its own: looking words up wants rows whole, multiplying wants panels."""
    if model.head is None:
        model.head = made(model.embedding.weight, None)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, made(child.weight, child.bias))
