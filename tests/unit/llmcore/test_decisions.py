"""Every decision is told with its reason, and the sums over them are what was served."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.llm_fakes import FakeRunner, engine, request, run_out

from llmcore.ordering import POLICIES, ordering_named
from llmcore.request import Sampling


def test_the_life_of_a_request_is_told() -> None:
    running = engine(FakeRunner(16))
    running.submit(request(10, id="one", max_tokens=5))
    running.submit(request((), id="none"))
    run_out(running)

    decisions = running.decisions()
    assert [(each.kind, each.request) for each in decisions] == [
        ("admitted", "one"),
        ("refused", "none"),
        ("started", "one"),
        ("finished", "one"),
    ]
    assert decisions[1].reason == "invalid: the prompt is empty"
    last = decisions[-1]
    assert (last.reason, last.prefill_tokens, last.decode_tokens, last.cached_tokens) == ("length", 10, 5, 0)
    assert running.decisions() == []


def test_why_a_request_waits_is_told_once_for_each_cause() -> None:
    running = engine(FakeRunner(12), max_running=2)
    running.submit(request([5, 6], id="wide", n=2, max_tokens=9))
    running.submit(request(20, id="late", max_tokens=5))
    running.submit(request(36, id="large", max_tokens=9))
    run_out(running)

    waits = [(each.request, each.reason) for each in running.decisions() if each.kind == "waited"]
    assert waits == [
        ("late", "every slot is taken"),
        ("large", "there is no room for its keys and values"),
    ]


def test_a_cancelled_or_suspended_request_is_billed_for_what_it_had() -> None:
    running = engine(FakeRunner(32))
    for id in ("gone", "later"):
        running.submit(request([4, 5, 6, id == "gone"], id=id, max_tokens=20))
    for _ in range(5):
        running.step()
    running.cancel("gone")
    running.take("later")

    ends = {each.kind: (each.prefill_tokens, each.decode_tokens) for each in running.decisions()[-2:]}
    assert ends == {"cancelled": (4, 5), "suspended": (4, 5)}


loads = st.lists(
    st.tuples(st.integers(1, 20), st.integers(1, 12), st.sampled_from("abc"), st.sampled_from([1, 3])), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(loads, st.sampled_from(POLICIES), st.booleans(), st.sampled_from(["swap", "recompute"]), st.integers(0, 30))
def test_the_sums_are_what_was_served(
    load: list[tuple[int, int, str, int]], policy: str, cache: bool, preemption: str, cancel_at: int
) -> None:
    runner = FakeRunner(16, host_blocks=8)
    running = engine(runner, ordering=ordering_named(policy), prefix_cache=cache, preemption=preemption)
    sampling = Sampling(temperature=1.0, seed=1, ignore_eos=True)
    for number, (prompt, output, tenant, n) in enumerate(load):
        running.submit(
            request(prompt, id=f"q{number}", max_tokens=output, tenant=tenant, domain="all", n=n, sampling=sampling)
        )
    said: Counter[str] = Counter()
    used_s = 0.0
    step = 0
    while running.has_work:
        before = runner.clock.now
        for event in running.step():
            said[event.sequence.request.id] += len(getattr(event, "tokens", ()))
        # who ended in the step held its blocks through it: so the meter, not the count after it, is compared below
        used_s += runner.clock.now - before
        step += 1
        if step == cancel_at:
            running.cancel("q0")

    decisions = running.decisions()
    decoded: Counter[str] = Counter()
    for each in decisions:
        decoded[each.request] += each.decode_tokens
    assert +decoded == +said
    assert sum(each.prefill_tokens for each in decisions) == runner.prefill_run
    tenants = running.look(0).tenants
    assert sum(each.prefill_tokens for each in decisions) == sum(each.prefill_tokens for each in tenants)
    assert sum(each.decode_tokens for each in decisions) == sum(each.decode_tokens for each in tenants)
    for tenant in tenants:
        billed = sum(each.block_seconds for each in decisions if each.tenant == tenant.tenant)
        assert billed == pytest.approx(tenant.block_seconds)
    assert sum(each.block_seconds for each in decisions) <= used_s * runner.num_blocks + 1e-6
