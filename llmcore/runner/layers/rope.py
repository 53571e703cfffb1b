"""Rotary position embedding (Su et al., 2021) and the ways its frequencies are stretched for longer windows.

Frequencies are computed in fp32 whatever the model's dtype: so were they when the checkpoints were trained.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from llmcore.errors import ModelError

KINDS: Final = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSettings:
    """As a checkpoint's `rope_parameters` names them."""

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    original_window: int = 0
    """The window of the training that came before the stretching (llama3, yarn)."""
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True


class Rope:
    """Turns pairs of numbers `(x[i], x[i + head_dim / 2])` by an angle that grows with the position."""

    def __init__(self, settings: RopeSettings, head_dim: int, device: torch.device) -> None:
        self._frequencies = _frequencies(settings, head_dim).to(device)
        self._scale = _scale(settings)

    def tables(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines for `rotate`, each `(num_tokens, 1, head_dim)`: once a step, for all layers."""
        angles = torch.outer(positions.float(), self._frequencies)
        cos, sin = angles.cos() * self._scale, angles.sin() * self._scale
        return torch.cat((cos, cos), -1).to(dtype).unsqueeze(1), torch.cat((-sin, sin), -1).to(dtype).unsqueeze(1)


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """`(num_tokens, heads, head_dim)`, each head turned to its token's position."""
    cos, sin = tables
    first, second = x.chunk(2, dim=-1)
    return torch.cat((second, first), -1).mul_(sin).addcmul_(x, cos)


def _frequencies(settings: RopeSettings, head_dim: int) -> Tensor:
    """Radians a token, `(head_dim / 2,)`."""
    plain = 1.0 / settings.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    match settings.kind:
        case "default":
            return plain
        case "linear":
            return plain / settings.factor
        case "llama3":
            return _llama3(plain, settings)
        case "yarn":
            return _yarn(plain, settings, head_dim)
        case unknown:
            raise ModelError(
                f"position embeddings of kind {unknown!r} are not supported; these are: {', '.join(KINDS)}"
            )


def _llama3(plain: Tensor, settings: RopeSettings) -> Tensor:
    """Long waves are stretched, short ones kept, and those between blended (Llama 3.1)."""
    turns = settings.original_window * plain / (2 * math.pi)
    low, high = settings.low_freq_factor, settings.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * plain + (1 - kept) * plain / settings.factor


def _yarn(plain: Tensor, settings: RopeSettings, head_dim: int) -> Tensor:
    """As llama3, by dimension instead of wavelength (Peng et al., 2023, section 3.2)."""

    def dimension(turns: float) -> float:
        """The one whose wave turns so often within the original window."""
        return head_dim * math.log(settings.original_window / (turns * 2 * math.pi)) / (2 * math.log(settings.theta))

    low, high = dimension(settings.beta_fast), dimension(settings.beta_slow)
    if settings.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    stretched = ((torch.arange(head_dim // 2) - low) / max(high - low, 0.001)).clamp(0, 1)
    return (1 - stretched) * plain + stretched * plain / settings.factor


def _scale(settings: RopeSettings) -> float:
    """Of queries and keys each; yarn sharpens attention with it."""
    if settings.attention_factor is not None:
        return settings.attention_factor
    return 0.1 * math.log(settings.factor) + 1.0 if settings.kind == "yarn" and settings.factor > 1 else 1.0
