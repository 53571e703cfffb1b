"""`python -m bench.llm.fit`: how long the real runner's steps take on one thread, and the cost model that fits best.

Writes `bench/llm/cost.json`, which everything on the virtual clock reads.
"""

import argparse
import json
import platform
import subprocess
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import torch

from bench.llm.cost import COMMITTED, Load
from bench.llm.fitting import Sample, fitted
from llmcore.plan import Chunk, Plan
from llmcore.request import Request, Sampling
from llmcore.runner.model_runner import ModelRunner
from llmcore.sequence import Sequence, State

BLOCK_SIZE = 16
NUM_BLOCKS = 1024
PROMPTS = [(tokens, start) for start in (0, 512, 2048, 6144) for tokens in (16, 64, 128, 256)]
"""(tokens, context before them)."""
DECODES = [(sequences, context) for context in (32, 512, 2048) for sequences in (1, 2, 4, 8, 16, 32)]
MIXED = [(64, 512, 4, 512), (128, 0, 8, 256), (224, 2048, 16, 256), (192, 0, 32, 128)]
"""(prompt tokens, context before them, sequences that decode, their contexts)."""
MOVES = (64, 256, 512)
"""Blocks swapped out."""


class Grid:
    """Steps of known content, on blocks that nobody has allocated."""

    def __init__(self, runner: ModelRunner, repeats: int) -> None:
        self._runner = runner
        self._repeats = repeats
        self._ids = count()

    def samples(self) -> list[Sample]:
        plans = [Plan(chunks=self._chunks([(start, tokens)])) for tokens, start in PROMPTS]
        plans += [
            Plan(chunks=self._chunks([(context - 1, 1)] * sequences))
            for sequences, context in DECODES
            if sequences * context <= NUM_BLOCKS * BLOCK_SIZE
        ]
        plans += [
            Plan(chunks=self._chunks([(start, tokens)] + [(context - 1, 1)] * sequences))
            for tokens, start, sequences, context in MIXED
        ]
        plans += [Plan(swap_out=[(block, block) for block in range(blocks)]) for blocks in MOVES]
        return [self._sample(plan) for plan in plans]

    def _chunks(self, wanted: list[tuple[int, int]]) -> list[Chunk]:
        """(start, tokens) of each; a single token decodes."""
        chunks, used = [], 0
        for start, tokens in wanted:
            blocks = -(-(start + tokens) // BLOCK_SIZE)
            prompt = tuple(100 + place % 1000 for place in range(start + tokens))
            request = Request(
                id="fit", tenant="fit", domain="fit", prompt=prompt, max_tokens=1, sampling=Sampling(temperature=0.0)
            )
            sequence = Sequence(
                id=next(self._ids),
                request=request,
                index=0,
                tokens=list(prompt),
                computed=start,
                blocks=list(range(used, used + blocks)),
                state=State.DECODE if tokens == 1 else State.PREFILL,
            )
            used += blocks
            chunks.append(Chunk(sequence, start, tokens))
        return chunks

    def _sample(self, plan: Plan) -> Sample:
        """The least of some repeats, in CPU time of this process: what else the machine does can only add to it."""
        times = []
        for _ in range(self._repeats + 1):
            began = time.process_time()
            self._runner.run(plan)
            times.append(time.process_time() - began)
        return Sample(Load.of(plan), min(times[1:]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=Path, default=Path(".cache/llm"))
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--out", type=Path, default=COMMITTED)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    runner = ModelRunner.load(
        "smollm2", cache_folder=chosen.cache, num_blocks=NUM_BLOCKS, host_blocks=max(MOVES), block_size=BLOCK_SIZE
    )
    samples = Grid(runner, chosen.repeats).samples()
    fit = fitted(samples)
    for sample in samples:
        print(f"{1e3 * sample.seconds:9.1f} ms  fitted {1e3 * fit.model.seconds(sample.load):9.1f} ms  {sample.load}")
    print(f"R^2 {fit.r_squared:.4f}, worst relative error {fit.worst:.0%}")
    record = {
        "seconds": fit.model.as_json(),
        "r_squared": round(fit.r_squared, 5),
        "worst_relative_error": round(fit.worst, 3),
        "steps": len(samples),
        "model": f"{runner.shape.name}, {runner.attention} attention, {torch.get_num_threads()} thread",
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
        "machine": _machine(),
    }
    chosen.out.write_text(json.dumps(record, indent=2) + "\n")


def _revision() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _machine() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names) or 1} cores"


if __name__ == "__main__":
    main()
