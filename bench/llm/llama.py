"""llama.cpp: the server in the wheel of xllamacpp, in an environment of its own, on the shipped file as it is.

That file is in four bits and the others' weights are what it says in float32, but llama.cpp also rounds what it
multiplies them with: its tokens are its own, and its figure stands beside the others. It keeps a prefix for each of its
slots, so a cold one is shared with nobody; and the wheel is built for AVX2.
"""

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.llm import elsewhere
from bench.llm.case import Answers, Case
from bench.llm.workload import NEW, NUM_BLOCKS, REQUESTS, STEP_TOKENS, prompts

VERSION: Final = "2026.10.11549"
NAME: Final = f"xllamacpp-{VERSION}"


def cases(file: Path, threads: int, stack: ExitStack) -> Iterator[Case]:
    """`file` is a GGUF in Q4_1; `stack` ends the process.

    Raises:
        Absent: it does not install or load here.
    """
    python = elsewhere.environment(NAME, _install)
    process = elsewhere.Process(NAME, python, "bench.llm.llama", str(file), str(threads), variables={})
    stack.callback(process.close)
    for sharing in ("off", "cold", "warm"):
        yield Case(
            engine=f"llama.cpp (xllamacpp {VERSION}, AVX2), Q4_1, {REQUESTS} slots",
            sharing=sharing,
            setup=lambda sharing=sharing: process.setup(sharing),  # type: ignore[misc]
            clock=process.cpu_s,
            is_torch=False,
        )


def _install(python: Path) -> None:
    elsewhere.pip(python, f"xllamacpp=={VERSION}", "msgspec")  # the workload is made of msgspec's


class _Engine:
    def __init__(self, file: str, threads: str) -> None:
        self._file = file
        self._threads = int(threads)
        self._server: Any = None

    def prepare(self, sharing: str) -> Callable[[], Answers]:
        self._server = None  # one at a time
        self._server = self._started()
        if sharing == "warm":
            self._answer(prompts(others=True), sharing)
        return lambda: self._answer(prompts(), sharing)

    def _started(self) -> Any:
        from xllamacpp import CommonParams, Server  # noqa: PLC0415  of its own environment

        settings = CommonParams()
        settings.model.path = self._file
        settings.port = 0
        settings.n_parallel = REQUESTS
        settings.n_ctx = NUM_BLOCKS * 16
        settings.kv_unified = True
        settings.n_batch = settings.n_ubatch = STEP_TOKENS
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self._threads
        settings.cache_ram_mib = 0  # prefixes stay in their slots
        settings.verbosity = 1
        return Server(settings)

    def _answer(self, asked: list[list[int]], sharing: str) -> Answers:
        with ThreadPoolExecutor(len(asked)) as pool:
            return list(pool.map(partial(self._complete, sharing=sharing), asked))

    def _complete(self, prompt: list[int], sharing: str) -> list[int]:
        body = {
            "prompt": prompt,
            "n_predict": NEW,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": sharing != "off",
            "return_tokens": True,
        }
        asked = urllib.request.Request(
            f"{self._server.listening_address}/completion",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as said:
            tokens: list[int] = json.load(said)["tokens"]
        return tokens


if __name__ == "__main__":
    elsewhere.serve(lambda: _Engine(*sys.argv[1:]).prepare)
