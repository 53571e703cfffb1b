"""Grouped-query self-attention (Ainslie et al., 2023), its cache and kernel elsewhere."""

from torch import Tensor, nn
from typing_extensions import override

from llmcore.runner.attention import Attend
from llmcore.runner.layers.norm import RmsNorm
from llmcore.runner.layers.rope import rotate


class SelfAttention(nn.Module):
    """Queries, keys and values as one matrix, rows in that order; queries and keys are turned together."""

    def __init__(
        self,
        *,
        hidden: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        qkv_bias: bool,
        out_bias: bool,
        qk_norm_eps: float | None,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.qkv = nn.Linear(hidden, (heads + 2 * kv_heads) * head_dim, bias=qkv_bias)
        self.out = nn.Linear(heads * head_dim, hidden, bias=out_bias)
        self.q_norm = None if qk_norm_eps is None else RmsNorm(head_dim, qk_norm_eps)
        self.k_norm = None if qk_norm_eps is None else RmsNorm(head_dim, qk_norm_eps)

    @override
    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], attend: Attend, keys: Tensor, values: Tensor) -> Tensor:
        """`x` is `(num_tokens, hidden)`; `rope` of `Rope.tables`; keys and values are this layer's cache."""
        qkv = self.qkv(x).view(x.shape[0], self.heads + 2 * self.kv_heads, self.head_dim)
        q, k = qkv[:, : self.heads], qkv[:, self.heads : -self.kv_heads]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = rotate(self.q_norm(q), rope), rotate(self.k_norm(k), rope)
        else:
            turned = rotate(qkv[:, : -self.kv_heads], rope)
            q, k = turned[:, : self.heads], turned[:, self.heads :]
        attended = attend(q, k, qkv[:, -self.kv_heads :], keys, values)
        out: Tensor = self.out(attended.view(x.shape[0], self.heads * self.head_dim))
        return out
