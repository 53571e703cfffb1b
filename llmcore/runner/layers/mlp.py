"""The gated feed-forward layer (SwiGLU; Shazeer, 2020)."""

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class GatedMlp(nn.Module):
    """`down(silu(gate(x)) * up(x))`, gate and up as one matrix."""

    def __init__(self, hidden: int, intermediate: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden, 2 * intermediate, bias=bias)
        self.down = nn.Linear(intermediate, hidden, bias=bias)

    @override
    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(functional.silu(gate).mul_(up))
        return out
