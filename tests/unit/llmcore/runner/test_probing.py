"""What is chosen where nothing is said, and what cannot be had."""

from pathlib import Path

import pytest
import torch

from llmcore.errors import ModelError
from llmcore.runner.model_runner import unseen
from llmcore.runner.probing import choose_attention, choose_device, choose_dtype

CPU = torch.device("cpu")


def test_a_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert choose_dtype("auto", CPU) is torch.float32
    assert choose_dtype("float64", CPU) is torch.float64


def test_bfloat16_is_for_cpus_that_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(ModelError, match="say float32"):
        choose_dtype("bfloat16", CPU)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16


def test_the_oracle_runs_everywhere(tmp_path: Path) -> None:
    assert choose_attention("reference", CPU, torch.float64, tmp_path, unseen).name == "reference"
    assert choose_attention("auto", CPU, torch.float64, tmp_path, unseen).name == "reference"


def test_what_was_named_and_cannot_be_had_is_said(tmp_path: Path) -> None:
    for wanted in ("tpu", "cuda:99", "cuda:x"):
        with pytest.raises(ModelError, match=wanted):
            choose_device(wanted)
    with pytest.raises(ModelError, match="float8"):
        choose_dtype("float8", CPU)
    with pytest.raises(ModelError, match="flash"):
        choose_attention("flash", CPU, torch.float32, tmp_path, unseen)
    with pytest.raises(ModelError, match="cpu cannot run here"):
        choose_attention("cpu", CPU, torch.float64, tmp_path, unseen)
