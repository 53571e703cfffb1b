"""`python -m bench.llm.fairness`: one trace of a hundred tenants under each scheduling policy, on the virtual clock.

Writes the table of `bench/FAIRNESS.md` and the picture beside the docs. The same code as serves: `llmcore/engine.py` with
another clock and another runner, whose steps take as long as `cost.json` says.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.llm import plot
from bench.llm.cost import COMMITTED, CostModel, committed
from bench.llm.measures import jain_of_backlogged, largest_gap, percentile
from bench.llm.play import Played, play
from bench.llm.traces import Job, Kind, Mix, requests, trace
from llmcore.engine import EngineConfig
from llmcore.ordering import Fifo, Ordering, Priority, RoundRobin, Vtc
from llmcore.ordering.vtc import DECODE_WEIGHT, PREFILL_WEIGHT
from llmcore.request import Finish

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "llm-fairness.svg"
REPORT = ROOT / "bench" / "FAIRNESS.md"

POLICIES: dict[str, Callable[[], Ordering]] = {
    "fifo": Fifo,
    "priority (10 s a level)": Priority,
    "priority (1 h a level)": lambda: Priority(aging_s=3600.0),
    "round-robin": RoundRobin,
    "vtc": Vtc,
}
CONFIG = EngineConfig(num_blocks=728, host_blocks=728)
"""512 MiB of keys and values of SmolLM2 in fp32, and as much to swap to: the gateway's defaults."""
LOAD = 0.9
"""What is asked for, over what can be served in the horizon."""
WINDOW_S = 300.0
"""Over which service is compared: shorter than that a fair queue still shows who had the last long prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One policy on the trace."""

    policy: str
    waits_s: dict[Kind, tuple[float, float, float]]
    """p50, p95, p99 of the time to the first token."""
    slowdowns: dict[Kind, tuple[float, float]]
    """p50, p95 of how much longer a job took than on an empty machine."""
    jain: float
    gap: float
    tokens_per_s: float
    """Output, over the makespan."""
    makespan_s: float
    preemptions: int
    steps: int


def outcome_of(policy: str, jobs: list[Job], played: Played, alone_s: dict[str, float]) -> Outcome:
    """
    Raises:
        RuntimeError: not everything was served to its end.
    """
    if any(fate.finish is not Finish.LENGTH for fate in played.fates.values()) or len(played.fates) != requests(jobs):
        raise RuntimeError(f"{policy}: a request was refused or cut short")
    waits = {kind: sorted(fate.ttft_s for fate in played.fates.values() if fate.kind is kind) for kind in Kind}
    slowdowns = {kind: [_took(job, played) / alone_s[job.id] for job in jobs if job.kind is kind] for kind in Kind}
    return Outcome(
        policy=policy,
        waits_s={k: (percentile(v, 0.5), percentile(v, 0.95), percentile(v, 0.99)) for k, v in waits.items()},
        slowdowns={k: (percentile(v, 0.5), percentile(v, 0.95)) for k, v in slowdowns.items()},
        jain=jain_of_backlogged(played, WINDOW_S),
        gap=largest_gap(played.moments),
        tokens_per_s=sum(played.decode_tokens.values()) / played.makespan_s,
        makespan_s=played.makespan_s,
        preemptions=played.preemptions,
        steps=played.steps,
    )


def bound(jobs: list[Job], config: EngineConfig) -> float:
    """VTC's: 2 max(w_p L, w_q M). A preempted sequence computes its output again, so L is the longest of both."""
    longest = max(
        sum(len(turn.tokens) + turn.max_tokens for turn in (job.turns if job.is_loop else job.turns[:1]))
        for job in jobs
    )
    return 2 * max(PREFILL_WEIGHT * longest, DECODE_WEIGHT * config.num_blocks * config.block_size)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    seed = arguments.parse_args().seed
    cost = committed()
    busy_s = play(trace(Mix(), horizon_s=0.0, seed=seed), cost, CONFIG, Fifo()).makespan_s
    jobs = trace(Mix(), horizon_s=busy_s / LOAD, seed=seed)
    alone_s = {job.id: _took(job, play([job], cost, CONFIG, Fifo())) for job in jobs}
    outcomes = []
    for policy, ordering in POLICIES.items():
        outcomes.append(outcome_of(policy, jobs, play(jobs, cost, CONFIG, ordering()), alone_s))
        print(outcomes[-1], flush=True)
    plot.write(PICTURE, _picture(outcomes, jobs))
    REPORT.write_text(_report(outcomes, jobs, cost, busy_s / LOAD, seed))


def _took(job: Job, played: Played) -> float:
    """From the job's arrival to its last answer."""
    fates = [played.fates[f"{job.id}-{turn}"] for turn in range(len(job.turns))]
    return max(fate.ended_s or 0.0 for fate in fates) - job.arrives_s


def _picture(outcomes: list[Outcome], jobs: list[Job]) -> str:
    lines = [
        plot.Line(name=one.policy, waits_s=[one.waits_s[kind] for kind in Kind], evenness=one.jain) for one in outcomes
    ]
    return plot.picture(
        list(Kind),
        lines,
        title=f"{len({job.tenant for job in jobs})} tenants, {requests(jobs):,} requests, one model: who waits how long",
        description="For each scheduling policy and class of jobs, the time to the first token on a logarithmic axis: "
        "a disc at the median, a tick at the 95th percentile, a line that ends at the 99th; and Jain's index of the "
        "service of tenants that had something waiting.",
        evenness="service",
    )


def _report(outcomes: list[Outcome], jobs: list[Job], cost: CostModel, horizon_s: float, seed: int) -> str:
    fit = json.loads(COMMITTED.read_text())
    prompt = sum(len(turn.tokens) for job in jobs for turn in job.turns)
    rows = [_row(one) for one in outcomes]
    counts = {kind: sum(job.kind is kind for job in jobs) for kind in Kind}
    return f"""# Who waits, under which policy

![Time to first token by class and policy](../docs/llm-fairness.svg)

`python -m bench.llm.fairness --seed {seed}`: the engine that serves (`llmcore/engine.py`), under a virtual clock. A disc is the
median, a tick the 95th percentile, a line ends at the 99th; the axis is logarithmic.

The trace: {len({job.tenant for job in jobs})} tenants ask for {requests(jobs):,} requests over {horizon_s / 60:.0f} minutes, {LOAD:.0%} of what can be
served in that time: {counts[Kind.TRANSLATE]} sentences to translate, {counts[Kind.SUMMARISE]} documents of 200 pages to summarise (20 chunks of 4,000 tokens
each, all at once, in three bursts), {counts[Kind.AGENT]} agent loops of 5 to 10 turns with tools that take some seconds. {prompt:,} prompt
tokens, not counting what a loop repeats. KV memory holds {CONFIG.num_blocks * CONFIG.block_size:,} tokens; a step has {CONFIG.max_step_tokens} at most, {CONFIG.max_running} sequences run at once.

TTFT in seconds, p50 / p95 / p99; slowdown of a whole job against an empty machine, p50 / p95.

| policy | translate TTFT | agent TTFT | summarise TTFT | translate slowdown | agent | summarise |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

| policy | Jain index | largest service gap | output tokens/s | makespan s | preemptions |
|---|---|---|---|---|---|
{chr(10).join(_sums(one) for one in outcomes)}

The Jain index is of service (prompt tokens, and output tokens twice) in windows of {WINDOW_S:.0f} s, among tenants that had something
waiting throughout; the mean over windows. The gap is the most by which one tenant's service ran ahead of another's
while both had something waiting. VTC's bound for this trace, 2 max(w_p L, w_q M), is {bound(jobs, CONFIG):,.0f}; the others have none.

## What it says

- VTC gives a translator its turn while documents wait; they pay with their own waiting, in which nobody but they is behind.
- Round-robin counts requests: a chunk of 4,000 tokens is a turn, and so is a sentence.
- Priority trades one starvation for another: a rise of one level each 10 s (the default) is first come, first served
  in queues of many minutes; of one each hour, whoever is above is never behind, and nothing is shared among equals.
- Throughput is the same within a few percent: what policies decide is who waits.

## Where a step's time comes from

`python -m bench.llm.fit`, {fit["date"]}, {fit["model"]}, on {fit["machine"]}, at {fit["revision"]}: {fit["steps"]} steps of known content,
least squares on relative errors, R² {fit["r_squared"]:.3f}, worst step {fit["worst_relative_error"]:.0%} off.

    step_s = {cost.step_s:.3g} + {cost.prefill_token_s:.3g} prefill tokens + {cost.decode_sequence_s:.3g} decoding sequences
           + {cost.kv_token_s:.3g} tokens they read + {cost.prefill_pair_s:.3g} (query, key) pairs of prompts + {cost.moved_block_s:.3g} blocks moved
"""


def _row(one: Outcome) -> str:
    order = (Kind.TRANSLATE, Kind.AGENT, Kind.SUMMARISE)
    waits = [" / ".join(f"{wait:,.1f}" for wait in one.waits_s[kind]) for kind in order]
    slow = [" / ".join(f"{times:,.1f}x" for times in one.slowdowns[kind]) for kind in order]
    return f"| {one.policy} | {' | '.join(waits + slow)} |"


def _sums(one: Outcome) -> str:
    return (
        f"| {one.policy} | {one.jain:.2f} | {one.gap:,.0f} | {one.tokens_per_s:.1f} | {one.makespan_s:,.0f} "
        f"| {one.preemptions} |"
    )


if __name__ == "__main__":
    main()
