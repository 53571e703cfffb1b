"""llama.cpp, where it is installed: in an environment of its own, since it is no part of ours.

    python3 -m venv .cache/bench-llm/llama && .cache/bench-llm/llama/bin/pip install llama-cpp-python

No wheel of it exists: it is compiled, which takes half an hour on two cores. It runs the shipped file as it is, in four
bits, one request after another, so its tokens are its own: its figure is reported beside the others.
"""

import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.llm.workload import NEW, TOKENS, prompts
from llmcore.runner.loading.locate import locate

PYTHON = Path(__file__).parents[2] / ".cache" / "bench-llm" / "llama" / "bin" / "python"

_PROGRAM = """
import json, sys, time
from llama_cpp import Llama
asked = json.load(sys.stdin)
threads = asked["threads"]
model = Llama(asked["model"], n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
def answer(prompts, sharing):
    for prompt in prompts:
        if not sharing:
            model.reset()
            model._ctx.kv_cache_clear()
        for count, token in enumerate(model.generate(prompt, temp=0.0, top_k=1, reset=True), 1):
            if count == asked["new"]:
                break
found = []
for sharing in (False, True):
    if sharing:
        answer(asked["others"], True)
    cpu, wall = time.process_time(), time.perf_counter()
    answer(asked["prompts"], sharing)
    found.append((time.process_time() - cpu, time.perf_counter() - wall))
json.dump(found, sys.stdout)
"""


def is_here() -> bool:
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", "import llama_cpp"], check=False, capture_output=True).returncode == 0


def rows(threads: int, repeats: int) -> Iterator[str]:
    """Of the table of throughput; its prefix is that of the request before, so there is none that is cold."""
    asked = {"model": str(locate("smollm2")), "threads": threads, "new": NEW}
    asked |= {"prompts": prompts(), "others": prompts(others=True)[:1]}
    found = []
    for _ in range(repeats):
        ran = subprocess.run(
            [PYTHON, "-c", _PROGRAM], input=json.dumps(asked), capture_output=True, text=True, check=True
        )
        found.append(json.loads(ran.stdout))
    for place, sharing in enumerate(("off", "warm")):
        rates = sorted(TOKENS / one[place][0] for one in found)
        wall = TOKENS / statistics.median(one[place][1] for one in found)
        spread = f"{statistics.median(rates):.1f} ({rates[0]:.1f} to {rates[-1]:.1f})"
        yield f"| llama.cpp, 4 bits, one by one | {sharing} | {spread} | {wall:.1f} | | |"
