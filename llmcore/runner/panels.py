"""A linear layer whose weights lie in the order in which a CPU reads them (`native/linear.cpp`).

A decode multiplies a few rows with every weight, and is as fast as memory is: panels are read at most of its bandwidth,
where torch's own layer uses about a third.
"""

from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from llmcore.runner.native import Kernels

PANEL: Final = 16
"""Outputs that lie side by side; as in the source."""


class PanelLinear(nn.Module):
    """`x @ weight.T + bias` in float32."""

    weight: Tensor
    """`(panels, inputs, PANEL)`."""
    bias: Tensor | None
    """`(panels * PANEL,)`."""

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is `(outputs, inputs)`."""
        super().__init__()
        self._run = kernels.linear_f32
        self.outputs, self.inputs = weight.shape
        self.register_buffer("weight", panels(weight).transpose(1, 2).contiguous())
        self.register_buffer("bias", None if bias is None else padded(bias))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """`(num_rows, inputs)` to `(num_rows, outputs)`; any stride of rows."""
        out = torch.empty((x.shape[0], self.outputs))
        bias = None if self.bias is None else self.bias.data_ptr()
        self._run(
            *(x.data_ptr(), x.stride(0), self.weight.data_ptr(), bias, out.data_ptr()),
            *(x.shape[0], self.outputs, self.inputs, torch.get_num_threads()),
        )
        return out


def panels(rows: Tensor) -> Tensor:
    """`(outputs, ...)` as `(panels, PANEL, ...)`, zeros at the end."""
    full = padded(rows)
    return full.view(-1, PANEL, *full.shape[1:])


def padded(rows: Tensor) -> Tensor:
    """The first dimension filled up with zeros to whole panels."""
    missing = -rows.shape[0] % PANEL
    return rows.detach() if missing == 0 else torch.cat((rows.detach(), rows.new_zeros(missing, *rows.shape[1:])))
