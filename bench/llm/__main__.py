"""`python -m bench.llm`: the tables of `bench/LLM.md`.

Engines take turns in one run, so that what else the machine does falls on all of them; medians over the repeats, ratios
to the best other engine on torch of the same row. `--quick` is one repeat on one thread, and writes nothing.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.llm import audited, crowd, elsewhere, latency, llama, memory, ours, quality, torch_peers, vllm_cpu
from bench.llm.case import Case, Measured
from bench.llm.workload import NUM_BLOCKS, TOKENS
from llmcore.runner.loading.locate import locate
from llmcore.runner.model_runner import ModelRunner

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "bench" / "LLM.md"
CACHE = ROOT / ".cache" / "llm"
LOG_PAIRS = 20
LONG_BLOCKS = 400
"""KV blocks where prompts of 4,000 tokens are served."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--repeats", type=int, default=5, help="what is reported says how many")
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = arguments.parse_args()
    quick, repeats = given.quick, 1 if given.quick else given.repeats
    exact, rounded = _runner(None), _runner("int8")
    lines = [_heading(repeats)]
    for threads in (1,) if quick else given.threads:
        torch.set_num_threads(threads)
        lines += throughput(exact, rounded, threads, repeats=repeats)
    torch.set_num_threads(1)
    lines += decoding(exact, rounded, repeats=repeats)
    lines += waiting(exact, repeats=min(repeats, 3))
    lines += limits(exact)
    lines += losses(exact, rounded)
    said = "\n".join(lines) + "\n"
    print(said)
    if not quick:
        REPORT.write_text(said, encoding="utf-8")


def throughput(exact: ModelRunner, rounded: ModelRunner, threads: int, *, repeats: int) -> Iterator[str]:
    with ExitStack() as stack:
        peers, absences = _peers(exact, threads, stack)
        cases = [*peers, *ours.cases("Pratique, float32", exact), *ours.cases("Pratique, int8", rounded)]
        found = [Measured() for _ in cases]
        for number in range(repeats):
            for case, measured in zip(cases, found, strict=True):
                measured.add(case)
                took = f"{measured.cpu_s[-1]:.1f} CPU seconds"
                print(f"{number + 1}/{repeats}: {case.engine}, {case.sharing}: {took}", file=sys.stderr, flush=True)
    right = found[0].answers
    yield f"\n## Throughput, {threads} thread{'s' if threads > 1 else ''}\n"
    columns = ("engine", "prefix", "tokens per CPU second (least to most)", "per wall second", "to the best torch peer")
    yield f"| {' | '.join(columns)} | same tokens |"
    yield "|---|---|---|---|---|---|"
    for case, measured in zip(cases, found, strict=True):
        rates = [TOKENS / seconds for seconds in measured.cpu_s]
        same = sum(a == b for a, b in zip(measured.answers, right, strict=True))
        yield (
            f"| {case.engine} | {case.sharing} | {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) "
            f"| {TOKENS / statistics.median(measured.wall_s):.1f} | {_ratio(case, measured, cases, found)} "
            f"| {same} of {len(right)} |"
        )
    yield from absences
    if threads == 1:
        off, cold = memory.most_tokens(exact)
        yield (
            "\nIf float32 linear layers were all there is, ours at their best rate here: "
            f"{off:.1f} tokens per CPU second with nothing shared, {cold:.1f} cold."
        )


def _peers(exact: ModelRunner, threads: int, stack: ExitStack) -> tuple[list[Case], list[str]]:
    """Of all other engines; and a sentence for each that does not run here."""
    assert exact.folder is not None
    cases, absences = list(torch_peers.cases(exact.folder)), []
    for peer, weights in ((vllm_cpu, exact.folder), (llama, locate("smollm2"))):
        try:
            cases += peer.cases(weights, threads, stack)
        except elsewhere.Absent as absent:
            absences.append(f"\n{absent}")
    return cases, absences


def _ratio(case: Case, measured: Measured, cases: list[Case], found: list[Measured]) -> str:
    """Median of the repeats' ratios, to whoever is best in the median; none for an engine that is not on torch."""
    if not case.is_torch:
        return ""
    peers = [
        other
        for one, other in zip(cases, found, strict=True)
        if one.sharing == case.sharing and one.is_torch and not one.is_ours
    ]
    best = min(peers, key=lambda peer: statistics.median(peer.cpu_s))
    return f"{statistics.median(b / a for a, b in zip(measured.cpu_s, best.cpu_s, strict=True)):.2f}x"


def decoding(exact: ModelRunner, rounded: ModelRunner, *, repeats: int) -> Iterator[str]:
    yield "\n## A decode step of one sequence against memory, one thread\n"
    yield "| weights | step ms | bytes read, MB | measured read rate, GB/s | to the limit (least to most) |"
    yield "|---|---|---|---|---|"
    for name, runner in (("float32", exact), ("int8", rounded)):
        found = [memory.measure(runner) for _ in range(repeats)]
        ratios = sorted(one.to_limit for one in found)
        yield (
            f"| {name} | {1e3 * statistics.median(one.step_s for one in found):.1f} | {found[0].bytes_read / 1e6:.0f} "
            f"| {statistics.median(one.rate for one in found) / 1e9:.1f} "
            f"| {statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )


def waiting(exact: ModelRunner, *, repeats: int) -> Iterator[str]:
    alone, waits = latency.measure(exact, (48, 56, 256, None), repeats)
    yield f"\n## First token of {latency.SHORT} tokens while {latency.LONG:,} prefill, one thread\n"
    yield f"Alone: {1e3 * alone:.0f} ms.\n"
    yield "| tokens in a step | p95 ms | to alone |"
    yield "|---|---|---|"
    for wait in waits:
        budget = "all (chunking off)" if wait.step_tokens is None else wait.step_tokens
        yield f"| {budget} | {1e3 * wait.p95_s:,.0f} | {wait.to_solo:.1f}x |"


def limits(exact: ModelRunner) -> Iterator[str]:
    yield "\n## Memory, overload, the log\n"
    yield f"- KV slots held and unused: {100 * crowd.kv_waste(exact):.1f} % (blocks of {exact.block_size})"
    for room in (1024, 100):
        found = crowd.crowd(exact, room)
        refused = ", ".join(f"{count} refused as {code}" for code, count in found.refused.items()) or "none refused"
        clients = f"{crowd.CLIENTS} clients at once, a queue of {room}"
        yield f"- {clients}: {found.answered} answered, {refused}; {found.wall_s:.0f} s"
    found = sorted(audited.ratios(exact, LOG_PAIRS))
    yield (
        f"- decisions on record to none made, processor time: {statistics.median(found):.3f}x in the median of "
        f"{LOG_PAIRS} pairs (middle half {found[LOG_PAIRS // 4]:.3f} to {found[-LOG_PAIRS // 4]:.3f})"
    )


def losses(exact: ModelRunner, rounded: ModelRunner) -> Iterator[str]:
    assert exact.folder is not None
    ids = quality.tokens(exact.folder)
    first, second = quality.perplexity(exact, ids), quality.perplexity(rounded, ids)
    yield "\n## What int8 costs\n"
    texts = " and ".join(f"`{name}`" for name in quality.TEXTS)
    change = 100 * (second / first - 1)
    yield f"Perplexity of {len(ids):,} tokens of {texts}:"
    yield f"{first:.2f} in float32, {second:.2f} in int8 ({change:+.1f} %)."


def _runner(quantize: str | None) -> ModelRunner:
    blocks = max(NUM_BLOCKS, LONG_BLOCKS)
    return ModelRunner.load("smollm2", cache_folder=CACHE, num_blocks=blocks, device="cpu", quantize=quantize)


def _heading(repeats: int) -> str:
    on_gpu = ROOT / "bench" / "LLM-GPU.md"
    there = f"On a GPU: {on_gpu.name}." if on_gpu.exists() else "On a GPU: none was at hand (`make check-gpu`)."
    described = ["git", "describe", "--always", "--dirty"]
    revision = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return (
        f"# The model's speed\n\n`make bench-llm`, {datetime.now(UTC):%Y-%m-%d}, revision {revision}, torch "
        f"{torch.__version__}, {len(names)} cores of {names[0].partition(':')[2].strip()}.\nSmolLM2-135M-Instruct, "
        f"greedy: 8 requests, 256 of 360 prompt tokens alike, 32 new. {repeats} repeats, engines in turns; medians.\n"
        f"{there}"
    )


if __name__ == "__main__":
    main()
