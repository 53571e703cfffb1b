"""The fairness bound of virtual token counters, on our engine: two tenants that both always wait are served within
2 max(w_p L, w_q M) of each other over every stretch of time (Sheng et al. 2024, theorem 4.4).

M is the most tokens that those who run at once may come to have. The paper reserves memory for all of them, so there it
is what fits the cache; we start as many as fit for now, and preempt when they have grown, so it may be more.
"""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.llm_fakes import FakeRunner, engine, request

from llmcore.engine import Engine
from llmcore.ordering import Fifo, Ordering, Vtc
from llmcore.ordering.vtc import DECODE_WEIGHT, PREFILL_WEIGHT
from llmcore.request import Request

BLOCKS, BLOCK_SIZE = 12, 4
LONGEST = 20
jobs = st.tuples(st.integers(1, LONGEST), st.integers(1, 20))
traces = st.fixed_dictionaries(
    {tenant: st.lists(st.tuples(st.integers(0, 40), jobs), min_size=1, max_size=6) for tenant in "abc"}
)


def submissions(trace: dict[str, list[tuple[int, tuple[int, int]]]], repeat: int) -> list[tuple[int, Request]]:
    """(step, request): each job comes `repeat` times at once."""
    return sorted(
        (
            (step, request([*range(2, 2 + prompt - 1), 60 + n % 30], tenant=tenant, max_tokens=output))
            for tenant, arrivals in trace.items()
            for step, (prompt, output) in arrivals
            for n in range(repeat)
        ),
        key=lambda each: each[0],
    )


@dataclass(slots=True)
class Watched:
    """One run, step by step."""

    furthest_apart: float = 0.0
    """The greatest difference in service of two tenants over any stretch in which both had something waiting."""
    most_running: int = 0
    """M: tokens, as above."""

    @property
    def bound(self) -> float:
        return 2 * max(PREFILL_WEIGHT * LONGEST, DECODE_WEIGHT * self.most_running)


def watched(running: Engine, arrivals: list[tuple[int, Request]]) -> Watched:
    seen_so_far = Watched()
    ranges: dict[tuple[str, str], tuple[float, float]] = {}
    lengths = {asked.id: len(asked.prompt) + asked.max_tokens for _, asked in arrivals}
    step = 0
    while arrivals or running.has_work:
        while arrivals and arrivals[0][0] <= step:
            assert running.submit(arrivals.pop(0)[1]) is None
        running.step()
        step += 1
        seen = running.look(0)
        together = sum(lengths[each.request] for each in seen.sequences if each.state in ("prefill", "decode"))
        seen_so_far.most_running = max(seen_so_far.most_running, together)
        tenants = {each.tenant: each for each in seen.tenants}
        backlogged = {tenant for tenant, each in tenants.items() if each.waiting}
        for pair in ((a, b) for a in tenants for b in tenants if a < b):
            if not backlogged.issuperset(pair):
                ranges.pop(pair, None)
                continue
            ahead = _service(tenants[pair[0]]) - _service(tenants[pair[1]])
            low, high = ranges.get(pair, (ahead, ahead))
            ranges[pair] = min(low, ahead), max(high, ahead)
            seen_so_far.furthest_apart = max(seen_so_far.furthest_apart, ranges[pair][1] - ranges[pair][0])
    return seen_so_far


def _service(tenant: object) -> float:
    return PREFILL_WEIGHT * tenant.prefill_tokens + DECODE_WEIGHT * tenant.decode_tokens  # type: ignore[attr-defined]


def made(ordering: Ordering, **config: object) -> Engine:
    return engine(FakeRunner(BLOCKS, host_blocks=8), ordering=ordering, **config)


@pytest.mark.promise("llm.fair-share")
@settings(max_examples=60, deadline=None)
@given(traces, st.sampled_from([8, 32]), st.sampled_from(["swap", "recompute"]), st.booleans())
def test_tenants_that_wait_are_served_within_the_bound(
    trace: dict[str, list[tuple[int, tuple[int, int]]]], budget: int, preemption: str, cache: bool
) -> None:
    running = made(Vtc(), max_step_tokens=budget, preemption=preemption, prefix_cache=cache)

    run = watched(running, submissions(trace, repeat=5))

    assert run.furthest_apart <= run.bound


def flood() -> list[tuple[int, Request]]:
    """One tenant asks for much at once, then another for as much."""
    return submissions({"a": [(0, (20, 10))], "b": [(1, (20, 10))]}, repeat=150)


def test_the_bound_is_kept_where_first_come_first_served_breaks_it_many_times_over() -> None:
    unfair, fair = watched(made(Fifo()), flood()), watched(made(Vtc()), flood())

    assert unfair.furthest_apart > 5 * unfair.bound
    assert fair.furthest_apart <= fair.bound
