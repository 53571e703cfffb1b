"""The decoder: embedding, layers of attention and feed-forward, and logits for the rows that are asked for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from llmcore.runner.attention import Attend
from llmcore.runner.layers import GatedMlp, RmsNorm, Rope, SelfAttention
from llmcore.runner.models.config import ModelConfig


class Layer(nn.Module):
    """Pre-norm residual: attention, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(config.hidden, config.norm_eps)
        self.attention = SelfAttention(
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            qkv_bias=config.qkv_bias,
            out_bias=config.out_bias,
            qk_norm_eps=config.norm_eps if config.qk_norm else None,
        )
        self.mlp_norm = RmsNorm(config.hidden, config.norm_eps)
        self.mlp = GatedMlp(config.hidden, config.intermediate, bias=config.mlp_bias)

    @override
    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], attend: Attend, keys: Tensor, values: Tensor) -> Tensor:
        x = x.add_(self.attention(self.attention_norm(x), rope, attend, keys, values))
        return x.add_(self.mlp(self.mlp_norm(x)))


class Decoder(nn.Module):
    """Made on the device `meta`, without weights; `loading` or `shapes` puts them in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.embedding = nn.Embedding(config.vocabulary, config.hidden)
            self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
            self.norm = RmsNorm(config.hidden, config.norm_eps)
            self.head: nn.Module | None = None
            if not config.tied:
                self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        self._rope: Rope | None = None

    @override
    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        cache: Sequence[tuple[Tensor, Tensor]],
        rows: Tensor,
    ) -> Tensor:
        """Run a step's tokens through the network.

        Args:
            tokens, positions: int64 `(num_tokens,)`.
            attend: the step's attention, prepared.
            cache: keys and values of each layer.
            rows: int64 `(num_rows,)`, the tokens whose logits are wanted.

        Returns:
            `(num_rows, vocabulary)`.
        """
        rope = self._tables(positions)
        x = self.embedding(tokens)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            x = layer(x, rope, attend, keys, values)
        x = self.norm(x[rows])
        logits: Tensor = functional.linear(x, self.embedding.weight) if self.head is None else self.head(x)
        return logits

    def _tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self._rope is None:  # only now is it known on which device the weights lie
            self._rope = Rope(self.config.rope, self.config.head_dim, positions.device)
        return self._rope.tables(positions, self.embedding.weight.dtype)
