"""The bench's instruments: a machine that notices mistakes, traces that a seed makes again, measures of fairness."""

from array import array
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.llm.cost import CostModel, Load, committed
from bench.llm.fairness import bound, most_running
from bench.llm.fitting import Sample, fitted
from bench.llm.measures import jain, jain_of_backlogged, largest_gap, percentile
from bench.llm.play import Moment, Played, play
from bench.llm.traces import Job, Kind, Mix, Turn, requests, trace
from bench.llm.virtual import VirtualClock, VirtualRunner
from llmcore.engine import EngineConfig
from llmcore.ordering import POLICIES, Vtc, ordering_named
from llmcore.plan import Chunk, Plan
from llmcore.request import Finish, Request
from llmcore.sequence import Sequence, State

LITTLE = Mix(translators=6, translations=2, summarisers=2, pages=20, agents=2, loops=1, bursts=1)
CONFIG = EngineConfig(num_blocks=320, host_blocks=100)


def sequence(tokens: list[int], blocks: list[int], state: State = State.PREFILL) -> Sequence:
    request = Request(id="r", tenant="t", domain="t", prompt=tuple(tokens), max_tokens=1)
    return Sequence(id=0, request=request, index=0, tokens=tokens, blocks=blocks, state=state)


def machine() -> tuple[VirtualRunner, VirtualClock]:
    clock = VirtualClock()
    return VirtualRunner(committed(), clock, num_blocks=8, host_blocks=8, block_size=4), clock


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_what_it_says_does_not_depend_on_chunks_or_on_where_blocks_lie() -> None:
    tokens = [5, 6, 7, 8, 9, 10]
    whole, _ = machine()
    (one,) = whole.run(Plan(chunks=[Chunk(sequence(tokens, [0, 1]), 0, 6)]))
    parts, _ = machine()
    scattered = sequence(tokens, [7, 2])
    assert parts.run(Plan(chunks=[Chunk(scattered, 0, 3)])) == []
    assert parts.run(Plan(chunks=[Chunk(scattered, 3, 3)])) == [one]


def test_a_wrong_block_makes_it_say_something_else() -> None:
    tokens = [5, 6, 7, 8, 9, 10]
    runner, _ = machine()
    (right,) = runner.run(Plan(chunks=[Chunk(sequence(tokens, [0, 1]), 0, 6)]))
    assert runner.run(Plan(chunks=[Chunk(sequence(tokens, [3, 1]), 4, 2)])) != [right]


def test_blocks_survive_the_way_to_the_host_and_into_a_snapshot_and_back() -> None:
    tokens = [5, 6, 7, 8, 9]
    runner, _ = machine()
    (right,) = runner.run(Plan(chunks=[Chunk(sequence(tokens, [0, 1]), 0, 5)]))
    runner.run(Plan(swap_out=[(0, 6)]))
    runner.run(Plan(swap_in=[(6, 4)], copies=[(4, 5)]))
    kept = runner.read_blocks([5], [4])
    assert kept == array("Q", kept).tobytes()
    runner.write_blocks([2], kept)
    assert runner.run(Plan(chunks=[Chunk(sequence(tokens, [2, 1]), 4, 1)])) == [right]


def test_a_step_takes_what_the_model_of_its_cost_says() -> None:
    runner, clock = machine()
    prompt, decoding = sequence(list(range(1, 7)), [0, 1]), sequence([1, 2, 3], [2], State.DECODE)
    plan = Plan(chunks=[Chunk(prompt, 2, 4), Chunk(decoding, 2, 1)], copies=[(3, 4)])
    assert Load.of(plan) == Load(
        prefill_tokens=4, prefill_pairs=3 + 4 + 5 + 6, decode_sequences=1, kv_tokens=3, moved_blocks=1
    )
    runner.run(plan)
    assert clock.now == pytest.approx(committed().seconds(Load.of(plan)))


def test_the_fit_finds_the_model_that_made_the_samples() -> None:
    truth = CostModel(
        step_s=0.03,
        prefill_token_s=2e-3,
        decode_sequence_s=3e-3,
        kv_token_s=3e-6,
        prefill_pair_s=1e-6,
        moved_block_s=5e-4,
    )
    random = np.random.default_rng(3)
    names = [field.name for field in fields(Load)]
    loads = [Load(**dict(zip(names, map(int, random.integers(1, 300, size=5)), strict=True))) for _ in range(40)]
    fit = fitted([Sample(load, truth.seconds(load)) for load in loads])
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.model.as_json() == pytest.approx(truth.as_json(), rel=1e-6)


# ---- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_follows_from_its_seed() -> None:
    assert trace(LITTLE, horizon_s=100.0, seed=4) == trace(LITTLE, horizon_s=100.0, seed=4)
    assert trace(LITTLE, horizon_s=100.0, seed=4) != trace(LITTLE, horizon_s=100.0, seed=5)


def test_the_committed_mix_has_a_hundred_tenants_of_three_classes() -> None:
    jobs = trace(Mix(), horizon_s=1.0, seed=1)
    assert len({job.tenant for job in jobs}) == 100
    assert {job.kind for job in jobs} == set(Kind)
    assert all(before.arrives_s <= after.arrives_s for before, after in pairwise(jobs))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_serves_all_of_a_trace_and_its_decisions_sum_up(policy: str) -> None:
    jobs = trace(LITTLE, horizon_s=20.0, seed=2)
    played = play(jobs, committed(), CONFIG, ordering_named(policy))

    assert len(played.fates) == requests(jobs)
    assert {fate.finish for fate in played.fates.values()} == {Finish.LENGTH}
    for tenant in {job.tenant for job in jobs}:
        told = [decision for decision in played.decisions if decision.tenant == tenant]
        assert sum(decision.prefill_tokens for decision in told) == played.prefill_tokens[tenant]
        assert sum(decision.decode_tokens for decision in told) == played.decode_tokens[tenant]


def test_policies_change_who_waits_and_not_what_is_said() -> None:
    jobs = trace(LITTLE, horizon_s=20.0, seed=2)
    said = [
        {id: fate.output for id, fate in play(jobs, committed(), CONFIG, ordering_named(policy)).fates.items()}
        for policy in POLICIES
    ]
    assert all(other == said[0] for other in said)


asked = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.integers(1, 150), st.integers(1, 40), st.integers(1, 25)),
    min_size=2,
    max_size=8,
)
"""(tenant, arrival, tokens, output, how often at once)."""


def jobs_of(drawn: list[tuple[str, float, int, int, int]]) -> list[Job]:
    """All requests of a job have one prompt, so where there is a prefix cache they share all of it, output included."""
    return [
        Job(
            id=f"job-{place}",
            kind=Kind.SUMMARISE,
            tenant=tenant,
            arrives_s=arrives_s,
            turns=(Turn(tokens=tuple(range(place, place + tokens)), max_tokens=output),) * count,
        )
        for place, (tenant, arrives_s, tokens, output, count) in enumerate(drawn)
    ]


@settings(max_examples=15, deadline=None)
@given(asked)
def test_vtc_keeps_its_bound_on_any_trace(drawn: list[tuple[str, float, int, int, int]]) -> None:
    """By the runner's own account of what was served, on a machine whose memory is always short."""
    config = EngineConfig(num_blocks=24, max_running=4, max_step_tokens=32, prefix_cache=False)
    jobs = jobs_of(drawn)
    assert largest_gap(play(jobs, committed(), config, Vtc()).moments) <= bound(jobs, config)


@settings(max_examples=15, deadline=None)
@given(asked)
def test_where_prompts_share_memory_its_bound_counts_each_that_runs(
    drawn: list[tuple[str, float, int, int, int]],
) -> None:
    config = EngineConfig(num_blocks=24, max_running=4, max_step_tokens=32)
    jobs = jobs_of(drawn)
    played = play(jobs, committed(), config, Vtc())
    assert largest_gap(played.moments) <= bound(jobs, config, running_tokens=most_running(played))


def test_prompts_that_share_memory_can_run_further_ahead_than_memory_alone_allows() -> None:
    """Why M is what those who run come to have, not what memory holds: identical requests share even what they say."""
    config = EngineConfig(num_blocks=8, block_size=8, max_running=16, max_step_tokens=64)
    same = (Turn(tokens=tuple(range(24)), max_tokens=40),) * 60
    others = tuple(Turn(tokens=(number,) * 24, max_tokens=40) for number in range(60))
    jobs = [
        Job(id="same", kind=Kind.SUMMARISE, tenant="same", arrives_s=0.0, turns=same),
        Job(id="others", kind=Kind.SUMMARISE, tenant="others", arrives_s=0.3, turns=others),
    ]
    played = play(jobs, committed(), config, Vtc())
    gap = largest_gap(played.moments)
    assert bound(jobs, config) < gap <= bound(jobs, config, running_tokens=most_running(played))


# ---- measures --------------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.75, 0.99)] == [2.0, 3.0, 4.0]


def test_jains_index_is_one_for_equals_and_a_share_for_one_who_has_all() -> None:
    assert jain([3.0, 3.0, 3.0]) == 1.0
    assert jain([5.0, 0.0, 0.0, 0.0]) == 0.25


def moments() -> list[Moment]:
    """`a` is served before `b` waits, both are while they wait, `b` after `a` has left."""
    return [
        Moment(0.0, began="a"),
        Moment(1.0, served={"a": 100.0}),
        Moment(2.0, began="b"),
        Moment(3.0, served={"a": 10.0, "b": 4.0}),
        Moment(4.0, served={"b": 10.0}),
        Moment(5.0, ended="a"),
        Moment(6.0, served={"b": 500.0}),
        Moment(10.0, ended="b"),
    ]


def test_the_gap_counts_only_while_both_wait() -> None:
    assert largest_gap(moments()) == 10.0  # from +6 to -4


def test_the_index_counts_only_who_waits_throughout_a_window() -> None:
    assert jain_of_backlogged(Played(moments=moments()), window_s=2.5) == jain([10.0, 14.0])
