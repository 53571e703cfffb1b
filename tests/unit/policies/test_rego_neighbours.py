"""The policy engine beside other libraries of C++: whichever is loaded first, the process lives."""

import subprocess
import sys

import pytest

SCENE = """
import importlib, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
from policies.engine import PolicyError
from policies.rego_engine import RegoEngine
try:
    RegoEngine({"x.rego": "package operator\\n\\ndeny contains {"}, frozenset({"operator"}), {"effect": None})
except PolicyError:
    print("refused")
import torch
print(int(torch.ones(2).sum()))
"""


@pytest.mark.parametrize("order", ["policies.rego_engine torch", "torch", "greenlet", "greenlet torch"])
def test_an_error_of_the_engine_is_an_error_whatever_was_loaded_before_it(order: str) -> None:
    ran = subprocess.run([sys.executable, "-c", SCENE, order], capture_output=True, text=True, check=False, timeout=120)

    assert (ran.returncode, ran.stdout.split()) == (0, ["refused", "2"]), ran.stderr[-500:]
