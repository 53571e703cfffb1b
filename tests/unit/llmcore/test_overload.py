"""Five hundred clients at once, on the virtual clock: served, or refused in the stated words, and nothing else."""

from random import Random

import pytest

from bench.llm.cost import committed
from bench.llm.play import Played, play
from bench.llm.traces import Job, Kind, Turn
from llmcore.engine import EngineConfig
from llmcore.ordering import POLICIES, ordering_named
from llmcore.quotas import Quota, Quotas
from llmcore.request import Finish, RefusalCode

CLIENTS = 500


def clients(tenants: int) -> list[Job]:
    random = Random(5)
    return [
        Job(
            id=f"client-{place}",
            kind=Kind.TRANSLATE,
            tenant=f"tenant-{place % tenants}",
            arrives_s=0.0,
            turns=(Turn(tokens=tuple(random.choices(range(1000), k=random.randint(1, 600))), max_tokens=8),),
        )
        for place in range(CLIENTS)
    ]


def refusals(played: Played) -> dict[RefusalCode, int]:
    """How many, by code; everybody else was served to the end, and the log has every refusal."""
    counts: dict[RefusalCode, int] = {}
    for fate in played.fates.values():
        if fate.refused is None:
            assert fate.finish is Finish.LENGTH
            assert len(fate.output) == 8
        else:
            assert fate.finish is None
            counts[fate.refused.code] = counts.get(fate.refused.code, 0) + 1
    assert sum(decision.kind == "refused" for decision in played.decisions) == sum(counts.values())
    assert len(played.fates) == CLIENTS
    return counts


@pytest.mark.parametrize("policy", POLICIES)
def test_a_queue_that_is_long_enough_refuses_nobody(policy: str) -> None:
    config = EngineConfig(num_blocks=200, host_blocks=50)
    assert refusals(play(clients(20), committed(), config, ordering_named(policy))) == {}


def test_a_full_queue_refuses_whoever_comes_next() -> None:
    config = EngineConfig(num_blocks=200, max_waiting=100)
    played = play(clients(20), committed(), config, ordering_named("vtc"))
    assert refusals(played) == {RefusalCode.OVERLOADED: CLIENTS - 100}


def test_a_queue_that_would_need_too_much_memory_refuses_before_it_has_it() -> None:
    config = EngineConfig(num_blocks=200, max_waiting_blocks=2000)
    played = play(clients(20), committed(), config, ordering_named("vtc"))
    codes = refusals(played)
    assert codes.keys() == {RefusalCode.OVERLOADED}
    taken = [fate.request for fate in played.fates.values() if fate.refused is None]
    assert sum(-(-(len(request.prompt) + request.max_tokens) // config.block_size) for request in taken) <= 2000


def test_a_tenant_over_its_quota_is_refused_and_the_others_are_not() -> None:
    config = EngineConfig(num_blocks=200)
    played = play(clients(4), committed(), config, ordering_named("vtc"), quotas=Quotas(Quota(max_waiting=25)))
    assert refusals(played) == {RefusalCode.QUOTA: CLIENTS - 100}
    served = [fate.request.tenant for fate in played.fates.values() if fate.refused is None]
    assert {tenant: served.count(tenant) for tenant in served} == {f"tenant-{place}": 25 for place in range(4)}
