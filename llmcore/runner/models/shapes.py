"""Shapes without a checkpoint: random weights behave like real ones for time and memory, and for exactness."""

from typing import Final

import torch
from torch import nn

from llmcore.runner.models.config import ModelConfig
from llmcore.runner.models.decoder import Decoder

TINY: Final = ModelConfig(
    name="tiny",
    vocabulary=256,
    hidden=64,
    intermediate=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    window=16_384,
    tied=True,
)
"""For tests: a step takes about a millisecond."""

SMOLLM2_135M: Final = ModelConfig(
    name="smollm2-135m-shape",
    vocabulary=49_152,
    hidden=576,
    intermediate=1536,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    window=8192,
    tied=True,
)

LLAMA_8B: Final = ModelConfig(
    name="llama-8b-shape",
    vocabulary=128_256,
    hidden=4096,
    intermediate=14_336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    window=8192,
)

SHAPES: Final = {shape.name: shape for shape in (TINY, SMOLLM2_135M, LLAMA_8B)}


def random_decoder(config: ModelConfig, *, seed: int, dtype: torch.dtype, device: torch.device) -> Decoder:
    """Weights drawn so that logits are neither flat nor huge: the same seed, the same model, on one kind of device."""
    model = Decoder(config)
    generator = torch.Generator(device).manual_seed(seed)
    model.to_empty(device=device).to(dtype)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.normal_(
                parameter, std=0.02 if name.endswith("bias") else parameter.shape[-1] ** -0.5, generator=generator
            )
    return model.requires_grad_(False).eval()
