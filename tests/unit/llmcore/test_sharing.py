"""The prefix cache at work: what was computed is not computed again, in one domain, and never beyond it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.llm_fakes import FakeRunner, engine, request, run_out

from llmcore.engine import Engine


def prefill_of(running: Engine, id: str) -> tuple[int, int]:
    """(computed, cached) prompt tokens of a request that has ended."""
    (told,) = [each for each in running.decisions() if each.request == id and each.kind == "finished"]
    return told.prefill_tokens, told.cached_tokens


@pytest.mark.parametrize(("prompt", "cached"), [(17, 16), (16, 12), (3, 0), (19, 16)])
def test_a_prompt_that_was_computed_is_found_up_to_its_last_token(prompt: int, cached: int) -> None:
    running = engine(FakeRunner(64))
    running.submit(request(prompt, max_tokens=1))
    run_out(running)

    running.submit(request(prompt, id="again", max_tokens=1))
    run_out(running)

    assert prefill_of(running, "again") == (prompt - cached, cached)


def test_output_is_found_by_the_conversation_that_goes_on() -> None:
    running = engine(FakeRunner(64))
    first = request(10, id="first", max_tokens=12)
    running.submit(first)
    said = run_out(running).said["first"].tokens[0]

    running.submit(request([*first.prompt, *said, 7, 8], id="second", max_tokens=1))
    run_out(running)

    assert prefill_of(running, "second") == (4, 20)


@pytest.mark.promise("llm.no-cross-tenant-hit")
@given(st.lists(st.integers(2, 4), min_size=1, max_size=30), st.lists(st.integers(2, 4), min_size=1, max_size=30))
def test_what_another_domain_ran_makes_no_difference_to_the_work(theirs: list[int], ours: list[int]) -> None:
    alone = engine(FakeRunner(128))
    beside = engine(FakeRunner(128))
    beside.submit(request(theirs, domain="theirs", max_tokens=6))
    run_out(beside)
    beside.submit(request([*ours, 5], domain="theirs", max_tokens=2))
    run_out(beside)

    steps = []
    for running in (alone, beside):
        running.submit(request(ours, id="ours", domain="ours", max_tokens=3))
        before = running.look(0).steps
        run_out(running)
        steps.append((running.look(0).steps - before, prefill_of(running, "ours")))

    assert steps[0] == steps[1]


def test_many_of_one_prefix_wait_for_the_first_to_compute_it() -> None:
    runner = FakeRunner(128)
    running = engine(runner, max_step_tokens=64)
    for n in range(6):
        running.submit(request([*range(2, 34), 50 + n], id=f"q{n}", max_tokens=2))

    run_out(running)

    assert runner.prefill_run == 33 + 5 * 1
    assert len(runner.plans) == 3


def test_who_waits_for_a_prefix_leaves_the_step_to_others() -> None:
    runner = FakeRunner(128)
    running = engine(runner, max_step_tokens=64)
    running.submit(request([*range(2, 34), 50], id="one", max_tokens=2))
    running.submit(request([*range(2, 34), 51], id="two", max_tokens=2))
    running.submit(request([*range(40, 60)], id="other", max_tokens=2))

    running.step()

    assert [chunk.sequence.request.id for chunk in runner.plans[0].chunks] == ["other", "one"]


def test_cached_blocks_are_given_up_when_room_is_needed_the_ends_of_chains_first() -> None:
    running = engine(FakeRunner(8))
    running.submit(request([*range(2, 22)], id="old", max_tokens=1))  # 5 blocks
    run_out(running)
    running.submit(request([*range(50, 70)], id="new", max_tokens=1))  # 5 blocks, and 3 are free
    run_out(running)
    running.decisions()

    running.submit(request([*range(2, 22)], id="again", max_tokens=1))
    run_out(running)

    assert prefill_of(running, "again") == (8, 12)


def test_without_a_cache_everything_is_computed() -> None:
    runner = FakeRunner(64)
    running = engine(runner, prefix_cache=False)
    for n in range(3):
        running.submit(request(17, id=f"q{n}", max_tokens=1))
    run_out(running)

    assert runner.prefill_run == 51
    assert not any(block.is_cached for block in running.look(0).blocks)
