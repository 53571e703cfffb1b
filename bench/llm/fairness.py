"""`python -m bench.llm.fairness`: one trace of a hundred tenants under each scheduling policy, on the virtual clock.

Writes `bench/FAIRNESS.md` and its picture, beside the docs. The same code as serves: `llmcore/engine.py` with another
clock and another runner, whose steps take as long as `cost.json` says.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from bench.llm.cost import committed
from bench.llm.measures import jain_of_backlogged, largest_gap, percentile
from bench.llm.play import Played, play
from bench.llm.report import WINDOW_S, Outcome, Setting, picture, report
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
    "priority (10 s a level)": lambda: Priority(aging_s=10.0),
    "priority (10 min a level)": Priority,
    "round-robin": RoundRobin,
    "vtc": Vtc,
}
CONFIG = EngineConfig(num_blocks=728, host_blocks=728)
"""512 MiB of keys and values of SmolLM2 in fp32, and as much to swap to: the gateway's defaults."""
LOAD = 0.9
"""What is asked for, over what can be served in the horizon."""


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
        tokens_per_s=sum(played.decode_tokens.values()) / played.busy_s,
        busy_s=played.busy_s,
        spared_tokens=sum(decision.cached_tokens for decision in played.decisions),
        preemptions=played.preemptions,
        steps=played.steps,
    )


def bound(jobs: list[Job], config: EngineConfig, *, running_tokens: int | None = None) -> float:
    """VTC's: 2 max(w_p L, w_q M). A preempted sequence computes its output again, so L is the longest of both.

    `running_tokens` is M, the most that those who run at once come to have; None: what fits KV memory. Where prompts
    share blocks, or more are started than will fit, they come to have more.
    """
    memory = config.num_blocks * config.block_size
    return 2 * max(
        PREFILL_WEIGHT * longest(jobs), DECODE_WEIGHT * (memory if running_tokens is None else running_tokens)
    )


def most_running(played: Played) -> int:
    """The most tokens that those who ran at once might come to have."""
    running: dict[str, int] = {}
    most = 0
    for decision in played.decisions:
        if decision.kind in ("started", "resumed"):
            request = played.fates[decision.request].request
            running[decision.request] = len(request.prompt) + request.max_tokens
            most = max(most, sum(running.values()))
        elif decision.kind in ("preempted", "finished", "cancelled"):
            running.pop(decision.request, None)
    return most


def longest(jobs: list[Job]) -> int:
    """Tokens of prompt and output together."""
    loops = (sum(len(turn.tokens) + turn.max_tokens for turn in job.turns) for job in jobs if job.is_loop)
    others = (len(turn.tokens) + turn.max_tokens for job in jobs if not job.is_loop for turn in job.turns)
    return max((*loops, *others))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    seed = arguments.parse_args().seed
    cost = committed()
    busy_s = play(trace(Mix(), horizon_s=0.0, seed=seed), cost, CONFIG, Fifo()).busy_s
    jobs = trace(Mix(), horizon_s=busy_s / LOAD, seed=seed)
    alone_s = {job.id: _took(job, play([job], cost, CONFIG, Fifo())) for job in jobs}
    outcomes, limit = [], 0.0
    for policy, ordering in POLICIES.items():
        played = play(jobs, cost, CONFIG, ordering())
        outcomes.append(outcome_of(policy, jobs, played, alone_s))
        print(outcomes[-1], flush=True)
        if policy == "vtc":
            limit = bound(jobs, CONFIG, running_tokens=most_running(played))
    setting = Setting(jobs=jobs, config=CONFIG, horizon_s=busy_s / LOAD, load=LOAD, seed=seed, bound=limit)
    PICTURE.write_text(picture(outcomes, setting))
    REPORT.write_text(report(outcomes, setting, cost))


def _took(job: Job, played: Played) -> float:
    """From the job's arrival to its last answer."""
    fates = [played.fates[f"{job.id}-{turn}"] for turn in range(len(job.turns))]
    return max(fate.ended_s or 0.0 for fate in fates) - job.arrives_s


if __name__ == "__main__":
    main()
