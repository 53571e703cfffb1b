"""Who is next under each policy."""

import pytest
from support.llm_fakes import FakeRunner, Listener, engine, request, run_out

from llmcore.ordering import POLICIES, Fifo, Ordering, Priority, RoundRobin, Vtc, ordering_named


def served(ordering: Ordering, *asked: tuple[str, int], output: int = 4) -> list[str]:
    """The tenants in the order in which their requests ended, run one at a time; each is (tenant, priority)."""
    running = engine(FakeRunner(64), ordering=ordering, max_running=1)
    for place, (tenant, priority) in enumerate(asked):
        running.submit(request(5, id=f"{tenant}{place}", tenant=tenant, priority=priority, max_tokens=output))
    return [id[0] for id in run_out(running).said]


def test_first_come_first_served() -> None:
    assert served(Fifo(), ("a", 0), ("a", 0), ("b", 9), ("a", 0)) == ["a", "a", "b", "a"]


def test_tenants_take_turns() -> None:
    asked = [("a", 0)] * 4 + [("b", 0)] * 2 + [("c", 0)]

    assert served(RoundRobin(), *asked) == ["a", "b", "c", "a", "b", "a", "a"]


def test_higher_priority_goes_first() -> None:
    assert served(Priority(), ("a", 0), ("b", 2), ("c", 1)) == ["b", "c", "a"]


def test_whoever_waits_rises_and_does_not_starve() -> None:
    runner = FakeRunner(64)
    running = engine(runner, ordering=Priority(aging_s=10.0), max_running=1)
    running.submit(request(5, id="low", priority=0, max_tokens=2))
    listener = Listener()
    for n in range(40):
        running.submit(request(5, id=f"high{n}", priority=3, max_tokens=2))
        for _ in range(2):
            listener.hear(running.step())

    order = list(listener.said)
    assert 10 <= order.index("low") <= 20  # those of the first thirty seconds go first


def test_the_tenant_that_was_served_least_is_next() -> None:
    running = engine(FakeRunner(64), ordering=Vtc(), max_running=1)
    for n in range(3):
        running.submit(request([9, n], id=f"a{n}", tenant="a", max_tokens=20))
    for n in range(6):
        running.submit(request([8, n], id=f"b{n}", tenant="b", max_tokens=9))

    assert list(run_out(running).said) == ["a0", "b0", "b1", "b2", "a1", "b3", "b4", "a2", "b5"]


def test_a_share_of_three_is_served_three_times_as_much() -> None:
    running = engine(FakeRunner(64), ordering=Vtc(weights={"a": 3.0}), max_running=1)
    for n in range(40):
        for tenant in "ab":
            running.submit(request([9, n], tenant=tenant, max_tokens=4))
    for _ in range(160):
        running.step()

    decoded = {each.tenant: each.decode_tokens for each in running.look(0).tenants}
    assert decoded["a"] == pytest.approx(3 * decoded["b"], rel=0.1)


def test_nobody_saves_up_service_by_staying_away() -> None:
    running = engine(FakeRunner(64), ordering=Vtc(), max_running=1)
    for n in range(30):
        running.submit(request([9, n], id=f"a{n}", tenant="a", max_tokens=6))
    listener = Listener()
    for _ in range(60):
        listener.hear(running.step())
    for n in range(10):
        running.submit(request([8, n], id=f"b{n}", tenant="b", max_tokens=6))
    run_out(running, listener)

    later = [id[0] for id in listener.said][11:31]
    assert later.count("a") == 10


@pytest.mark.parametrize("policy", POLICIES)
def test_a_tenant_alone_gets_the_whole_machine(policy: str) -> None:
    runner = FakeRunner(64)
    running = engine(runner, ordering=ordering_named(policy), max_running=4)
    for n in range(12):
        running.submit(request([9, n], max_tokens=8))
    run_out(running)

    assert len(runner.plans) <= 12 * 8 / 4 + 3


def test_one_step_that_starts_many_does_not_start_them_all_for_one_tenant() -> None:
    runner = FakeRunner(64)
    running = engine(runner, ordering=Vtc(), max_running=4, max_step_tokens=64)
    for tenant in "ab":
        for n in range(4):
            running.submit(request([9, 8, 7, n], tenant=tenant, max_tokens=8))
    running.step()

    assert sorted(chunk.sequence.request.tenant for chunk in runner.plans[0].chunks) == ["a", "a", "b", "b"]


def test_who_is_next_and_finds_no_room_is_not_overtaken() -> None:
    running = engine(FakeRunner(10), ordering=Fifo())
    running.submit(request([5, 6, 7, 8], id="first", tenant="a", max_tokens=16))
    running.step()
    running.submit(request(range(10, 45), id="large", tenant="b", max_tokens=2))
    for n in range(40):
        running.submit(request([50, n], id=f"small{n}", tenant="c", max_tokens=4))
        running.step()

    started = [each.request for each in running.decisions() if each.kind == "started"]
    assert started[:3] == ["first", "large", "small0"]


def test_an_unknown_policy_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'lottery'; there are vtc, fifo"):
        ordering_named("lottery")
