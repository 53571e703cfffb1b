"""What the interpreter cannot show: that the Triton kernels compile for a GPU. None is needed for that, only ptxas."""

import pytest
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as triton_compile

from llmcore.runner.attention import triton_kernels as kernels

HOPPER = GPUTarget("cuda", 90, 32)
CONSTANTS = {"GROUP": 4, "BLOCK": 16, "DIM": 128, "WIDTH": 128, "COLUMNS": 64, "SPLITS": 8}
FLOATS = {"parts": "*fp32", "weights": "*fp32", "scale": "fp32", "slots": "*i64"}
INTEGERS = {"tables", "contexts", "starts", "tile_sequence", "tile_first"}
TENSORS = {"q", "k", "v", "keys", "values", "out"}


@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        (kernels.keep, {}),
        (kernels.attend, {"ROWS": 16, "IS_PART": True}),
        (kernels.attend, {"ROWS": 64, "IS_PART": False}),
        (kernels.merge, {}),
    ],
)
def test_a_kernel_compiles_for_a_gpu(kernel, more: dict[str, int | bool]) -> None:
    constants = {name: value for name, value in (CONSTANTS | more).items() if name in kernel.arg_names}
    half = dict.fromkeys(TENSORS, "*bf16")
    if not more.get("IS_PART", True):
        half["weights"] = "*bf16"  # not a part: it is handed the output once more, and left alone
    elif kernel is kernels.attend:
        half["out"] = "*fp32"
    kinds = {**FLOATS, **half, **dict.fromkeys(INTEGERS, "*i32"), **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    compiled = triton_compile(ASTSource(fn=kernel, signature=signature, constexprs=constants), target=HOPPER)
    assert compiled.asm["cubin"]
