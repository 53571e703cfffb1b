"""Linear layers of our own beside torch's."""

from pathlib import Path

import pytest
import torch
from support.models import CACHE
from torch.nn import functional

from llmcore.errors import ModelError
from llmcore.runner.linears import arrange
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models.shapes import TINY, random_decoder
from llmcore.runner.native import Kernels, kernels
from llmcore.runner.panels import PanelLinear
from llmcore.runner.quantize import GROUP, Int8Linear

SHAPES = [(576, 960), (70, 37), (1, 1), (19, 16), (64, 100)]
"""(inputs, outputs): whole panels and broken ones, inner sizes that no vector divides."""
ROWS = [1, 2, 3, 5, 7, 8, 9, 30, 150]


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    found = kernels(CACHE, lambda what, done: None)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def layer(inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(inputs)
    return torch.randn(outputs, inputs), torch.randn(outputs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_layer_in_panels_is_torchs_layer(compiled: Kernels, inputs: int, outputs: int, threads: int) -> None:
    weight, bias = layer(inputs, outputs)
    torch.set_num_threads(threads)
    try:
        for rows in ROWS:
            x = torch.randn(rows, inputs)
            for shift in (bias, None):
                found = PanelLinear(compiled, weight, shift)(x)
                torch.testing.assert_close(found, functional.linear(x, weight, shift), atol=1e-4, rtol=1e-5)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_an_int8_layer_is_the_layer_of_its_rounded_numbers(compiled: Kernels, inputs: int, outputs: int) -> None:
    weight, bias = layer(inputs, outputs)
    scale = weight.abs().amax(1, keepdim=True) / 127
    rounded = torch.round(weight / scale).double() * scale.double()
    for rows in ROWS:
        x = torch.randn(rows, inputs)
        groups = [group / 127 for group in (part.abs().amax(1, keepdim=True) for part in x.split(GROUP, dim=1))]
        step = torch.cat([one.expand_as(part) for one, part in zip(groups, x.split(GROUP, dim=1), strict=True)], 1)
        exact = functional.linear(torch.round(x / step).double() * step.double(), rounded, bias.double())
        found = Int8Linear(compiled, weight, bias)(x)
        tie = step.amax(1, keepdim=True).double() * rounded.abs().amax()  # one number may round the other way
        assert bool(((found - exact).abs() <= tie + 1e-4).all())


def test_rows_may_lie_apart(compiled: Kernels) -> None:
    weight, bias = layer(64, 100)
    x = torch.randn(5, 200)[:, :64]
    assert torch.equal(PanelLinear(compiled, weight, bias)(x), PanelLinear(compiled, weight, bias)(x.contiguous()))
    assert torch.equal(Int8Linear(compiled, weight, bias)(x), Int8Linear(compiled, weight, bias)(x.contiguous()))


def test_a_row_of_zeros_and_an_output_of_zeros_give_the_bias(compiled: Kernels) -> None:
    weight, bias = layer(64, 100)
    weight[3] = 0
    found = Int8Linear(compiled, weight, bias)(torch.cat((torch.zeros(1, 64), torch.randn(1, 64))))
    torch.testing.assert_close(found[0], bias)
    assert found[1, 3] == bias[3]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 35, 69])
def test_a_row_that_holds_no_number_spoils_itself_and_no_other(compiled: Kernels, odd: float, place: int) -> None:
    """Int8 would round it to a number, and nobody would learn that the model is broken."""
    weight, bias = layer(70, 37)
    x = torch.randn(3, 70)
    whole = Int8Linear(compiled, weight, bias)(x)
    x[1, place] = odd
    found = Int8Linear(compiled, weight, bias)(x)
    assert bool(found[1].isnan().all())
    assert torch.equal(found[0], whole[0])
    assert torch.equal(found[2], whole[2])


@pytest.mark.parametrize(("quantize", "kind"), [(None, PanelLinear), ("int8", Int8Linear)])
def test_every_linear_layer_and_the_head_are_replaced(compiled: Kernels, quantize: str | None, kind: type) -> None:
    model = ModelRunner.random(TINY, num_blocks=1, attention="auto", quantize=quantize, cache_folder=CACHE).model
    assert isinstance(model.head, kind)
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert sum(isinstance(module, kind) for module in model.modules()) == 4 * TINY.layers + 1


@pytest.mark.parametrize(
    ("quantize", "dtype", "sentence"),
    [
        ("int3", torch.float32, "'int3' is no way to store weights: say int8, or nothing"),
        ("int8", torch.float64, "int8 weights are for CPUs and float32, not for torch.float64 on cpu"),
    ],
)
def test_weights_that_cannot_be_stored_so_are_refused(quantize: str, dtype: torch.dtype, sentence: str) -> None:
    model = random_decoder(TINY, seed=0, dtype=dtype, device=torch.device("cpu"))
    with pytest.raises(ModelError, match=sentence):
        arrange(
            model,
            quantize,
            device=torch.device("cpu"),
            dtype=dtype,
            cache_folder=CACHE,
            progress=lambda what, done: None,
        )


def test_without_a_compiler_int8_is_refused_and_float32_stays_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    model = random_decoder(TINY, seed=0, dtype=torch.float32, device=torch.device("cpu"))
    where = {"device": torch.device("cpu"), "dtype": torch.float32, "cache_folder": tmp_path}
    arrange(model, None, **where, progress=lambda what, done: None)
    assert isinstance(model.layers[0].mlp.down, torch.nn.Linear)
    with pytest.raises(ModelError, match=r"int8 weights need compiled kernels: .*; install g\+\+ and ninja"):
        arrange(model, "int8", **where, progress=lambda what, done: None)
