"""The faster paths of attention beside the oracle."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.attention_batches import AXES, furthest, pairwise
from support.models import CACHE

from llmcore.runner.attention import Attention, cpu

TESTS = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def compiled() -> Attention:
    found = cpu.probe(torch.device("cpu"), torch.float32, CACHE, lambda what, done: None)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", pairwise({**AXES, "head_dim": (16, 64, 80, 96, 128, 256)}))
def test_the_compiled_path_agrees_with_the_oracle(compiled: Attention, case: dict[str, Any], threads: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    try:
        assert furthest(compiled, **case) < 2e-5
    finally:
        torch.set_num_threads(1)


def test_heads_of_a_size_without_compiled_code_are_left_to_the_oracle(compiled: Attention) -> None:
    lengths = ((1, 9), (20, 30))
    assert furthest(compiled, head_dim=24, heads=(4, 2), block_size=16, lengths=lengths) < 2e-5


def test_more_heads_on_a_key_than_a_tile_has_rows_are_left_to_the_oracle(compiled: Attention) -> None:
    lengths = ((1, 9), (20, 30))
    assert furthest(compiled, head_dim=16, heads=(97, 1), block_size=16, lengths=lengths) < 2e-5


def test_the_compiled_path_says_for_what_it_is_not_made() -> None:
    found = cpu.probe(torch.device("cpu"), torch.float64, CACHE, lambda what, done: None)
    assert found == "it is made for float32 on a CPU, not for torch.float64 on cpu"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_triton_path_agrees_with_the_oracle(device: str) -> None:
    """On a CPU through Triton's interpreter; on a GPU where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    command = [sys.executable, "-m", "support.triton_cases", device]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["cases"] >= 12
