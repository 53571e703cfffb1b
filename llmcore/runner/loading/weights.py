"""A checkpoint's tensors into a decoder's: matrices that work together become one."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from llmcore.errors import ModelError
from llmcore.runner.models import Decoder

FUSED: Final = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down": ("mlp.down_proj",),
    "attention_norm": ("input_layernorm",),
    "mlp_norm": ("post_attention_layernorm",),
}
"""Of a layer, by our names: the checkpoint's parts, rows in this order."""

OUTSIDE: Final = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def fill(
    model: Decoder,
    tensor: Callable[[str], Tensor],
    *,
    dtype: torch.dtype,
    device: torch.device,
    progress: Callable[[float], None],
) -> None:
    """
    Raises:
        ModelError: a tensor is missing, or has another shape than the configuration says.
    """
    wanted = dict(model.named_parameters())
    filled = {}
    for done, (name, parameter) in enumerate(wanted.items()):
        parts = [tensor(part) for part in _parts(name)]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if whole.shape != parameter.shape:
            raise ModelError(
                f"{' + '.join(_parts(name))} has the shape {tuple(whole.shape)} where the configuration says "
                f"{tuple(parameter.shape)}: weights and config.json are not of one model"
            )
        filled[name] = whole.to(device=device, dtype=dtype)
        progress(done / len(wanted))
    model.load_state_dict(filled, assign=True)
    model.requires_grad_(False).eval()


def _parts(name: str) -> tuple[str, ...]:
    """The checkpoint's names for one of the decoder's."""
    outside, _, kind = name.rpartition(".")
    if outside in OUTSIDE:
        return (f"{OUTSIDE[outside]}.{kind}",)
    _, number, inside = outside.split(".", 2)
    return tuple(f"model.layers.{number}.{part}.{kind}" for part in FUSED[inside])
