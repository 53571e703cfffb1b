"""How long a step takes, and so how long whoever comes meanwhile waits, on the virtual clock."""

from itertools import pairwise
from random import Random

import pytest
from support.llm_fakes import FakeRunner, engine, request

from bench.llm.cost import committed
from bench.llm.measures import percentile
from bench.llm.play import Played, play
from bench.llm.traces import VOCABULARY, Job, Kind, Turn
from llmcore.engine import EngineConfig
from llmcore.ordering import Vtc

LONG, SHORT, BLOCKS = 4000, 64, 728
ROUNDS, EACH = 10, 8
"""Long prompts, and short ones for each, one at any moment of each eighth of the time that the long one takes alone."""


def job(name: str, tokens: int, arrives_s: float = 0.0, output: int = 1) -> Job:
    prompt = tuple(Random(name).choices(range(VOCABULARY), k=tokens))
    turn = Turn(tokens=prompt, max_tokens=output)
    return Job(id=name, kind=Kind.TRANSLATE, tenant=name, arrives_s=arrives_s, turns=(turn,))


def played(*jobs: Job, **config: object) -> Played:
    return play(list(jobs), committed(), EngineConfig(num_blocks=BLOCKS, **config), Vtc())  # type: ignore[arg-type]


def first_token_s(name: str, run: Played) -> float:
    return run.fates[f"{name}-0"].ttft_s


def steps_s(run: Played) -> list[float]:
    ends = [0.0, *(moment.time_s for moment in run.moments if moment.served)]
    return [after - before for before, after in pairwise(ends)]


def wait_p95(output: int = 1, **config: object) -> float:
    """Of the short ones for their first token, over what one takes alone."""
    alone_s = first_token_s("short", played(job("short", SHORT), **config))
    takes_s = first_token_s("long", played(job("long", LONG), **config))
    random, waits = Random(5), []
    for number in range(ROUNDS):
        moments = [takes_s * (place + random.random()) / EACH for place in range(EACH)]
        shorts = [job(f"s{number}.{place}", SHORT, moment, output) for place, moment in enumerate(moments)]
        run = played(job("long", LONG), *shorts, **config)
        waits += [first_token_s(short.id, run) for short in shorts]
    return percentile(waits, 0.95) / alone_s


@pytest.mark.parametrize("output", [1, 16])
def test_a_short_request_waits_at_most_twice_as_long_beside_a_long_prompt_as_alone(output: int) -> None:
    assert 1.5 < wait_p95(output) <= 2.0


def test_without_chunks_it_waits_for_all_of_the_long_prompt() -> None:
    assert wait_p95(chunked=False) > 50.0


def test_a_step_takes_no_longer_at_the_end_of_a_long_prompt_than_at_its_beginning() -> None:
    """It is priced a little above the fit, which knows nothing of what each chunk reads."""
    first, *steps, _ = steps_s(played(job("long", 9000)))
    assert 0.7 * first < min(steps)
    assert max(steps) < 1.05 * first


def test_a_prompt_as_long_as_a_step_is_computed_in_one() -> None:
    assert len(steps_s(played(job("whole", EngineConfig(num_blocks=1).max_step_tokens)))) == 1


def test_a_little_that_is_left_of_a_prompt_takes_no_step_of_its_own() -> None:
    for tokens, steps in ((16, 1), (20, 1), (21, 2)):
        runner = FakeRunner(16)
        running = engine(runner, max_step_tokens=16)
        running.submit(request(tokens, max_tokens=1))
        while running.has_work:
            running.step()
        assert len(runner.plans) == steps


def test_prompts_that_end_share_a_step_and_what_goes_on_gets_little_of_it() -> None:
    runner = FakeRunner(200)
    running = engine(runner, max_step_tokens=32)
    running.submit(request(200, id="long", max_tokens=2))
    running.step()
    for n in range(2):
        running.submit(request([50 + n, 51, 52], id=f"short{n}", max_tokens=1))
    running.step()

    assert [(chunk.sequence.request.id, chunk.count) for chunk in runner.plans[-1].chunks] == [
        ("short0", 3),
        ("short1", 3),
        ("long", 2),  # with them, a quarter of the step
    ]


def test_a_short_request_gets_its_turn_among_many_long_prompts_and_they_get_theirs() -> None:
    runner = FakeRunner(400)
    running = engine(runner, max_step_tokens=16, max_running=16)
    longs = [f"long{n}" for n in range(8)]
    for n, name in enumerate(longs):
        running.submit(request([20 + n, *range(2, 92)], id=name, max_tokens=1))
    for _ in range(10):
        running.step()
    for n in range(40):
        running.submit(request([10, n, 3, 4], id=f"short{n}", max_tokens=1))
        began = len(runner.plans)
        while f"short{n}" in {each.request for each in running.look(0).sequences}:
            running.step()
        assert len(runner.plans) - began <= 2

    shares = dict.fromkeys(longs, 0)
    for chunk in (chunk for plan in runner.plans for chunk in plan.chunks):
        if chunk.sequence.request.id in shares:
            shares[chunk.sequence.request.id] += chunk.count
    assert min(shares.values()) >= 16


def test_however_much_is_decoded_prompts_have_a_quarter_of_a_step() -> None:
    runner = FakeRunner(200)
    running = engine(runner, max_step_tokens=16, max_running=16)
    for n in range(15):
        running.submit(request([20 + n], id=f"talks{n}", max_tokens=60))
    running.step()
    running.submit(request(40, id="reads", max_tokens=1))
    running.step()

    assert runner.plans[-1].num_tokens == 15 + 4
