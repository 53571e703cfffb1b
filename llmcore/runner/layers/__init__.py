"""What decoders are made of. Everything works on packed tokens: `(num_tokens, ...)`, of all sequences in one step."""

from llmcore.runner.layers.attention import SelfAttention
from llmcore.runner.layers.mlp import GatedMlp
from llmcore.runner.layers.norm import RmsNorm
from llmcore.runner.layers.rope import Rope, RopeSettings

__all__ = ["GatedMlp", "RmsNorm", "Rope", "RopeSettings", "SelfAttention"]
