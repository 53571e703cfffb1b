"""`python -m support.triton_cases [DEVICE]`: the Triton path beside the oracle; a line of JSON at the end.

In a process of its own, since Triton reads `TRITON_INTERPRET` when it is imported. With `cuda`, the kernels really run.
"""

import json
import sys

import torch

from llmcore.runner.attention.triton_paged import TritonAttention
from support.attention_batches import AXES, furthest, pairwise

TOLERANCE = {"float32": 1e-5, "float16": 4e-3}


def main(device: str) -> None:
    torch.manual_seed(0)
    worst = dict.fromkeys(TOLERANCE, 0.0)
    found = pairwise({**AXES, "dtype": tuple(TOLERANCE), "processors": (1, 64)})
    for case in found:
        name, path = case.pop("dtype"), TritonAttention(case.pop("processors"))
        apart = furthest(path, **case, dtype=getattr(torch, name), device=device)
        if not apart <= TOLERANCE[name]:
            raise SystemExit(f"{case} in {name}: {apart} apart from the oracle")
        worst[name] = max(worst[name], apart)
    print(json.dumps({"cases": len(found), "device": device, "worst": worst}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
