"""What a decoder is made from, whichever family its checkpoint calls itself."""

from dataclasses import dataclass, field

from llmcore.runner.layers import RopeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    name: str
    """For people: the checkpoint's folder or file, or a shape's name."""
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    """Tokens; where the checkpoint slides a narrower window over them, that one: within it both are the same."""
    norm_eps: float = 1e-5
    rope: RopeSettings = field(default_factory=RopeSettings)
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    """The output matrix is the embedding."""
    eos: frozenset[int] = frozenset()
