"""What one tenant may have: some is refused with its reason, some waits, and nobody else is touched by it."""

import pytest
from support.llm_fakes import FakeRunner, engine, request, run_out

from llmcore.hosts.config import HostConfig
from llmcore.quotas import Quota, Quotas
from llmcore.request import RefusalCode, Refused


def reason(refused: Refused | None) -> str:
    assert refused is not None
    assert refused.code is RefusalCode.QUOTA
    return refused.reason


def test_who_has_enough_in_the_queue_is_refused_and_others_are_not() -> None:
    running = engine(FakeRunner(64), quotas=Quotas(Quota(max_waiting=2)))
    answers = [running.submit(request(4, tenant="a")) for _ in range(3)]

    assert answers[:2] == [None, None]
    assert "2 of your requests wait already" in reason(answers[2])
    assert running.submit(request(4, tenant="b")) is None


def test_who_runs_enough_waits_and_is_overtaken_by_others() -> None:
    running = engine(FakeRunner(64), quotas=Quotas(tenants={"a": Quota(max_running=1)}))
    for n in range(3):
        running.submit(request([5, n], id=f"a{n}", tenant="a", max_tokens=4))
    running.submit(request(4, id="b", tenant="b", max_tokens=3))
    running.step()

    assert {each.request for each in running.look(0).sequences if each.state == "decode"} == {"a0", "b"}
    waits = [(each.request, each.reason) for each in running.decisions() if each.kind == "waited"]
    assert waits == [("a1", "quota: 1 sequences of the tenant may run")]
    assert len(run_out(running).said) == 4


def test_each_sample_counts_and_a_single_request_of_more_runs_alone() -> None:
    running = engine(FakeRunner(64), quotas=Quotas(Quota(max_running=3)))
    for id, n in (("two", 2), ("two more", 2), ("one", 1)):
        running.submit(request([5, n, len(id)], id=id, tenant="a", n=n, max_tokens=4))
    running.submit(request(4, id="wide", tenant="b", n=5, max_tokens=4))
    running.step()

    started = {each.request for each in running.look(0).sequences if each.state != "waiting"}
    assert started == {"two", "wide"}  # what came first of a tenant is not overtaken by its own
    run_out(running)
    assert not running.has_work


def test_a_tenant_never_holds_more_blocks_than_it_may() -> None:
    running = engine(FakeRunner(64), quotas=Quotas(Quota(max_blocks=6)))
    too_large = running.submit(request(20, max_tokens=6))
    assert too_large is not None
    assert too_large.code is RefusalCode.PROMPT_TOO_LONG
    assert "may need 7 KV blocks, and of the 64 there are you may hold 6" in too_large.reason
    for n in range(6):
        running.submit(request([5, n], max_tokens=6, tenant="a"))
    most = 0
    while running.has_work:
        running.step()
        most = max(most, sum(block.references > 0 for block in running.look(0).blocks))

    assert 4 <= most <= 6


def test_tokens_a_minute_are_used_up_and_come_back() -> None:
    runner = FakeRunner(64)
    running = engine(runner, quotas=Quotas(Quota(tokens_per_minute=20)))
    running.submit(request(12, max_tokens=8))
    run_out(running)

    assert "20 of your 20 tokens a minute are used; try again in 53 s" in reason(running.submit(request(4)))
    runner.clock.now += 61
    assert running.submit(request(4)) is None


@pytest.mark.parametrize(
    ("share", "given", "blocks"),
    [(0.75, None, 75), (0.75, 60, 60), (0.75, 90, 75), (1.0, None, None), (1.0, 90, 90), (0.001, None, 1)],
)
def test_a_tenant_may_hold_its_share_of_memory_and_never_more_than_its_quota(
    share: float, given: int | None, blocks: int | None
) -> None:
    config = HostConfig(model="", cache="", tenant_memory=share, quota=Quota(max_running=3, max_blocks=given))

    assert config.quota_of(100) == Quota(max_running=3, max_blocks=blocks)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_what_is_no_share_of_memory_is_said(share: float) -> None:
    with pytest.raises(ValueError, match=f"tenant_memory is {share}"):
        HostConfig(model="", cache="", tenant_memory=share).quota_of(100)
