"""S14: five hundred requests of 8,000 tokens against one small tenant, with KV memory for four of them.

The engine that serves, on a virtual clock: the runner takes as long as the real one was measured to take, and what it
says depends on the blocks it reads. What is asserted is order and service, so the figures of the fit do not matter.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

import pytest

from bench.llm.cost import committed
from bench.llm.measures import largest_gap
from bench.llm.play import Fate, Played, play
from bench.llm.traces import VOCABULARY, Job, Kind, Turn
from llmcore.engine import EngineConfig
from llmcore.hosts.config import HostConfig
from llmcore.ordering import Fifo, Vtc
from llmcore.ordering.vtc import DECODE_WEIGHT, PREFILL_WEIGHT
from llmcore.quotas import Quotas
from llmcore.request import Finish

NOISE, NOISE_TOKENS, NOISE_OUTPUT = 500, 8000, 24
SMALL, SMALL_TOKENS, SMALL_OUTPUT = 200, 100, 16
ARRIVES_S: Final = 60.0
CONFIG = EngineConfig(num_blocks=2005, max_running=8, max_step_tokens=4096)
"""Four prompts and the token after each take 2,004 blocks: what they say next is what there is no room for. Steps are
so large that four prompts are computed before the first has said all it may."""
BOUND = 2 * max(PREFILL_WEIGHT * (NOISE_TOKENS + NOISE_OUTPUT), DECODE_WEIGHT * CONFIG.num_blocks * CONFIG.block_size)


def turns(count: int, tokens: int, output: int, random: Random) -> tuple[Turn, ...]:
    return tuple(
        Turn(tokens=tuple(random.choices(range(VOCABULARY), k=tokens)), max_tokens=output) for _ in range(count)
    )


def noise(count: int = NOISE) -> Job:
    prompts = turns(count, NOISE_TOKENS, NOISE_OUTPUT, Random(1))
    return Job(id="noise", kind=Kind.SUMMARISE, tenant="noisy", arrives_s=0.0, turns=prompts)


def small(count: int = SMALL, *, is_loop: bool = False) -> Job:
    prompts = turns(count, SMALL_TOKENS, SMALL_OUTPUT, Random(2))
    return Job(id="small", kind=Kind.TRANSLATE, tenant="small", arrives_s=ARRIVES_S, turns=prompts, is_loop=is_loop)


def of(tenant: str, played: Played) -> list[Fate]:
    return [fate for fate in played.fates.values() if fate.request.tenant == tenant]


@dataclass(frozen=True)
class Night:
    """The same trace, with fairness and without."""

    fair: Played
    unfair: Played


@pytest.fixture(scope="module")
def night() -> Night:
    jobs = [noise(), small()]
    return Night(play(jobs, committed(), CONFIG, Vtc()), play(jobs, committed(), CONFIG, Fifo()))


def noise_before(fate: Fate, played: Played) -> int:
    """How many of the noisy requests had spoken before this one did."""
    assert fate.first_token_s is not None
    return sum(
        other.first_token_s is not None and other.first_token_s < fate.first_token_s for other in of("noisy", played)
    )


def noise_served_while(played: Played, since_s: float, until_s: float) -> float:
    return sum(moment.served.get("noisy", 0.0) for moment in played.moments if since_s < moment.time_s <= until_s)


def test_everything_is_served_and_memory_was_exhausted(night: Night) -> None:
    for played in (night.fair, night.unfair):
        assert len(played.fates) == NOISE + SMALL
        assert {fate.finish for fate in played.fates.values()} == {Finish.LENGTH}
        assert played.preemptions > 50


@pytest.mark.promise("llm.fair-share")
def test_under_vtc_the_service_gap_stays_within_its_bound(night: Night) -> None:
    assert 0 < largest_gap(night.fair.moments) <= BOUND


@pytest.mark.promise("llm.fair-share")
def test_under_vtc_the_small_tenant_waits_for_its_own_share_and_not_for_the_queue(night: Night) -> None:
    for fate in of("small", night.fair):
        before = noise_served_while(night.fair, fate.arrived_s, fate.first_token_s or 0.0)
        mine = SMALL * (PREFILL_WEIGHT * SMALL_TOKENS + DECODE_WEIGHT * SMALL_OUTPUT)
        assert before <= mine + BOUND
    last = max(of("small", night.fair), key=lambda fate: fate.first_token_s or 0.0)
    assert noise_before(last, night.fair) < 0.1 * NOISE


def test_first_come_first_served_lets_the_attack_land(night: Night) -> None:
    """The control: without fairness the small tenant waits behind all of them."""
    for fate in of("small", night.unfair):
        assert noise_before(fate, night.unfair) >= NOISE - 4  # four fit beside it
    assert largest_gap(night.unfair.moments) > 10 * BOUND


@pytest.mark.promise("llm.fair-share")
def test_with_its_share_of_memory_free_an_interactive_tenant_speaks_almost_as_soon_as_alone() -> None:
    config = EngineConfig(num_blocks=2005, max_running=8)
    share = HostConfig(model="", cache="").quota_of(config.num_blocks)  # as shipped: two of the noisy fit it
    one_by_one = small(10, is_loop=True)
    alone = play([one_by_one], committed(), config, Vtc())
    among = play([noise(20), one_by_one], committed(), config, Vtc(), quotas=Quotas(share))
    crammed = play([noise(20), one_by_one], committed(), config, Vtc())

    assert max(fate.first_token_s or 0.0 for fate in of("small", among)) < among.makespan_s / 2  # the noise was there
    step_s = longest_step_s(among)
    for lonely, crowded in zip(of("small", alone), of("small", among), strict=True):
        assert crowded.ttft_s <= lonely.ttft_s + 3 * step_s  # one that runs, one of who waited, its own
    # without its share: nobody makes room, so where memory is full it waits until one of those who run has ended
    assert max(fate.ttft_s for fate in of("small", crammed)) > 30 * step_s


def longest_step_s(played: Played) -> float:
    ends = [0.0, *(moment.time_s for moment in played.moments if moment.served)]
    return max(after - before for before, after in pairwise(ends))


@pytest.mark.promise("llm.preempted-identical")
def test_preempted_sequences_say_what_they_say_alone(night: Night) -> None:
    preempted = {decision.request for decision in night.fair.decisions if decision.kind == "preempted"}
    prompts = {fate.request.id: fate for fate in night.fair.fates.values() if fate.request.id in preempted}
    assert len(prompts) > 20
    for id, fate in list(prompts.items())[:20]:
        turn = Turn(tokens=fate.request.prompt, max_tokens=fate.request.max_tokens)
        job = Job(id=id, kind=fate.kind, tenant="alone", arrives_s=0.0, turns=(turn,))
        (lonely,) = play([job], committed(), CONFIG, Vtc()).fates.values()
        assert fate.output == lonely.output


def test_the_decisions_sum_up_to_what_the_runner_ran(night: Night) -> None:
    for played in (night.fair, night.unfair):
        for tenant in ("noisy", "small"):
            told = [decision for decision in played.decisions if decision.tenant == tenant]
            assert sum(decision.prefill_tokens for decision in told) == played.prefill_tokens[tenant]
            assert sum(decision.decode_tokens for decision in told) == played.decode_tokens[tenant]
