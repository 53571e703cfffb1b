"""What `fairness.py` writes: `bench/FAIRNESS.md`, and the figures its picture is drawn from."""

import json
from collections import Counter
from dataclasses import dataclass

from bench.llm import plot
from bench.llm.cost import COMMITTED, CostModel
from bench.llm.traces import Job, Kind, requests
from llmcore.engine import EngineConfig

WINDOW_S = 300.0
"""Over which service is compared: in a shorter one a fair queue shows no more than who had the last long prompt."""


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
    """Output, over the time in which there was something to do."""
    busy_s: float
    spared_tokens: int
    """Of prompts, that the prefix cache had."""
    preemptions: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all policies were played on."""

    jobs: list[Job]
    config: EngineConfig
    horizon_s: float
    load: float
    seed: int
    bound: float
    """VTC's, of the service gap."""

    @property
    def tenants(self) -> int:
        return len({job.tenant for job in self.jobs})


def picture(outcomes: list[Outcome], setting: Setting) -> str:
    """An SVG."""
    return plot.picture(
        list(Kind),
        [
            plot.Line(name=one.policy, waits_s=[one.waits_s[kind] for kind in Kind], evenness=one.jain)
            for one in outcomes
        ],
        title=f"Who waits how long: {setting.tenants} tenants, {requests(setting.jobs):,} requests, one model",
        description="For each scheduling policy and class of jobs, the time to the first token on a logarithmic axis: "
        "a disc at the median, a tick at the 95th percentile, a line that ends at the 99th; and Jain's index of the "
        "service of tenants that had something waiting.",
        evenness="equal service",
    )


def report(outcomes: list[Outcome], setting: Setting, cost: CostModel) -> str:
    """Markdown."""
    parts = [
        "# Who waits, under which policy",
        "![Time to first token by policy and class of jobs](../docs/llm-fairness.svg)",
        f"`python -m bench.llm.fairness --seed {setting.seed}`: the engine that serves (`llmcore/engine.py`), under a "
        "virtual clock.\nA disc is the median, a tick the 95th percentile, a line ends at the 99th.",
        _trace(setting),
        _waits(outcomes),
        _sums(outcomes),
        _legend(setting),
        _FINDINGS,
        _cost(cost),
    ]
    return "\n\n".join(parts) + "\n"


_FINDINGS = """## What it says

- First come, first served: a sentence waits behind every document that came before it.
- Priority, where who waits rises a level each 10 s, is first come, first served in queues of many minutes. As shipped,
  with a level each 10 minutes, most sentences go first at once. But documents that came 20 minutes before a sentence
  are ahead of it, and the queue is longer than that after a burst. Priority is the operator's word and not a tenant's
  share: within a level nothing is shared.
- Round-robin counts requests: a chunk of 4,000 tokens is a turn, and so is a sentence.
- VTC counts what was served. Sentences wait for seconds, and documents wait for their turn: theirs is the work.
- With VTC no less is served than first come, first served. It is a little more: an agent's next turn comes before its
  prefix has left the cache."""


def _trace(setting: Setting) -> str:
    counts = Counter(job.kind for job in setting.jobs)
    prompt = sum(len(turn.tokens) for job in setting.jobs for turn in job.turns)
    config = setting.config
    return (
        f"{setting.tenants} tenants ask for {requests(setting.jobs):,} requests in "
        f"{setting.horizon_s / 60:.0f} minutes, {setting.load:.0%} of what can be served in that time:\n"
        f"{counts[Kind.TRANSLATE]} sentences to translate; {counts[Kind.AGENT]} agent loops of 5 to 10 turns, whose "
        f"tools take some seconds; {counts[Kind.SUMMARISE]} documents of\n200 pages to summarise, in three bursts, as "
        f"20 chunks of about 4,000 tokens all at once. {prompt:,} prompt tokens, not\ncounting what a loop repeats. "
        f"KV memory holds {config.num_blocks * config.block_size:,} tokens. A step has {config.max_step_tokens} of a "
        f"prompt's beginning and fewer of its\nend; at most {config.max_running} sequences run."
    )


def _legend(setting: Setting) -> str:
    return (
        "The Jain index is of service (prompt tokens, and output tokens twice) in windows of "
        f"{WINDOW_S:.0f} s, among tenants that had\nsomething waiting throughout; the mean over windows. The gap is "
        "the most by which one tenant's service ran ahead of\nanother's while both had something waiting. VTC bounds "
        f"it by 2 max(w_p L, w_q M), here {setting.bound:,.0f} (L: the\nlongest prompt; M: the most tokens that those "
        "who ran at once might come to have); the others have no bound. Output is\ncounted over the time in which "
        "there was something to do. Spared: prompt tokens that the prefix cache had."
    )


def _waits(outcomes: list[Outcome]) -> str:
    head = ["policy", *(f"{kind}: TTFT s" for kind in Kind), *(f"{kind}: slowdown" for kind in Kind)]
    rows = [
        [
            one.policy,
            *(" / ".join(f"{wait:,.1f}" for wait in one.waits_s[kind]) for kind in Kind),
            *(" / ".join(f"{times:,.1f}x" for times in one.slowdowns[kind]) for kind in Kind),
        ]
        for one in outcomes
    ]
    legend = "Time to the first token: p50 / p95 / p99. Slowdown of a whole job against an empty machine: p50 / p95."
    return f"{legend}\n\n{_table(head, rows)}"


def _sums(outcomes: list[Outcome]) -> str:
    head = ["policy", "Jain index", "largest gap", "output tokens/s", "busy s", "steps", "spared", "preemptions"]
    rows = [
        [
            one.policy,
            f"{one.jain:.2f}",
            f"{one.gap:,.0f}",
            f"{one.tokens_per_s:.2f}",
            f"{one.busy_s:,.0f}",
            f"{one.steps:,}",
            f"{one.spared_tokens:,}",
            f"{one.preemptions}",
        ]
        for one in outcomes
    ]
    return _table(head, rows)


def _cost(cost: CostModel) -> str:
    fit = json.loads(COMMITTED.read_text())
    prices = [
        (cost.step_s, "for each step"),
        (cost.prefill_token_s, "for each prompt token"),
        (cost.prefill_pair_s, "for each (query, key) pair of the prompts"),
        (cost.decode_sequence_s, "for each sequence that decodes"),
        (cost.kv_token_s, "for each token of its context"),
        (cost.moved_block_s, "for each block moved"),
    ]
    lines = "\n".join(f"    {1e3 * seconds:10.5f} ms {what}".rstrip() for seconds, what in prices)
    return (
        "## What a step costs\n\n"
        f"`python -m bench.llm.fit`, {fit['date']}, at {fit['revision']}: {fit['model']},\non {fit['machine']}. "
        f"{fit['steps']} steps of known content, CPU time, least squares on relative errors: "
        f"R² {fit['r_squared']:.4f}, the worst step {fit['worst_relative_error']:.0%} off.\n\n{lines}"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])
