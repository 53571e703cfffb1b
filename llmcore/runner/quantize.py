"""int8 weights on a CPU: a quarter of the bytes, and four products in one instruction.

Weights have one scale for each output; rows have one for each group of inputs, found as they come, so that a few large
numbers among them (Dettmers et al., 2022) do not coarsen the others. What it costs in quality is measured by a test and
stated in `bench/LLM.md`.
"""

from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from llmcore.runner.native import Kernels
from llmcore.runner.panels import PANEL, padded, panels

LARGEST: Final = 127
GROUP: Final = 64
"""Inputs of a row that share a scale; as in the source."""


class Int8Linear(nn.Module):
    """`x @ weight.T + bias`, both sides rounded to int8."""

    weight: Tensor
    """int8 `(panels, width / 4, PANEL, 4)`."""
    scale: Tensor
    less: Tensor
    """int32 `(panels, width / GROUP, PANEL)`: the kernel takes rows around 128, and this off each group's sums."""
    bias: Tensor | None

    def __init__(self, kernels: Kernels, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is `(outputs, inputs)`, float32."""
        super().__init__()
        self._run = kernels.linear_i8
        self.outputs, self.inputs = weight.shape
        self.width = self.inputs + -self.inputs % GROUP
        """Inputs, padded to whole groups."""
        scale = weight.detach().abs().amax(dim=1) / LARGEST
        rounded = torch.round(weight.detach() / scale.clamp_min(torch.finfo(scale.dtype).tiny).unsqueeze(1))
        rows = nn.functional.pad(rounded, (0, self.width - self.inputs)).to(torch.int8)
        fours = panels(rows).view(-1, PANEL, self.width // 4, 4).transpose(1, 2)
        self.register_buffer("weight", fours.contiguous())
        self.register_buffer("scale", padded(scale))
        sums = rows.view(len(rows), -1, GROUP).sum(dim=2, dtype=torch.int32)
        self.register_buffer("less", -128 * panels(sums).transpose(1, 2).contiguous())
        self.register_buffer("bias", None if bias is None else padded(bias))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """`(num_rows, inputs)` to `(num_rows, outputs)`; any stride of rows."""
        count = x.shape[0]
        out = torch.empty((count, self.outputs))
        room, scales = torch.empty((count, self.width), dtype=torch.uint8), torch.empty((count, self.width // GROUP))
        bias = None if self.bias is None else self.bias.data_ptr()
        self._run(
            *(x.data_ptr(), x.stride(0), self.weight.data_ptr(), self.scale.data_ptr(), self.less.data_ptr(), bias),
            *(out.data_ptr(), room.data_ptr(), scales.data_ptr()),
            *(count, self.outputs, self.inputs, self.width, torch.get_num_threads()),
        )
        return out
