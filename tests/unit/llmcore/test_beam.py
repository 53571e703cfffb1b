"""Beam search finds what a plain, quadratic one finds."""

from math import log

import pytest
from support.llm_fakes import EOS, FakeRunner, engine, request, run_out

from llmcore.plan import Plan
from llmcore.request import Finish, Request, Sampling
from llmcore.sequence import Sequence

GREEDY = Sampling(temperature=0.0)


def next_tokens(asked: Request, tokens: list[int]) -> list[tuple[int, float]]:
    """What the runner would offer after these, best first."""
    runner = FakeRunner(64)
    sequence = Sequence(id=0, request=asked, index=0, tokens=tokens, blocks=list(range(64)))
    from llmcore.plan import Chunk

    (pick,) = runner.run(Plan(chunks=[Chunk(sequence, 0, len(tokens))]))
    assert pick.logprob is not None
    return list(pick.logprob.top)


def searched(asked: Request) -> list[tuple[float, tuple[int, ...]]]:
    """(mean log-probability, output) of the hypotheses, best first: lists are copied, nothing is shared."""
    width, kept = asked.beam_width, []
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for length in range(1, asked.max_tokens + 1):
        ways = [
            (score + logprob, output, token)
            for score, output in beams
            for token, logprob in next_tokens(asked, [*asked.prompt, *output])
        ]
        ways.sort(key=lambda way: -way[0])
        beams = []
        for score, output, token in ways[: 2 * width]:
            if token == EOS and not asked.sampling.ignore_eos:
                kept.append((score / length, tuple(output)))
            elif len(beams) < width:
                beams.append((score, [*output, token]))
        kept = sorted(kept, reverse=True)[:width]
        if len(kept) == width and max(score for score, _ in beams) / length <= kept[-1][0]:
            return kept
    kept += [(score / asked.max_tokens, tuple(output)) for score, output in beams]
    return sorted(kept, reverse=True)[:width]


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("prompt", [3, 4, 9])
def test_the_best_hypotheses_are_found_and_ranked(prompt: int, width: int) -> None:
    asked = request(prompt, id="b", max_tokens=6, n=width, beam_width=width, sampling=GREEDY)
    running = engine(FakeRunner(64))
    running.submit(asked)

    said = run_out(running).said["b"]

    expected = searched(asked)
    assert [tuple(said.tokens[rank]) for rank in range(width)] == [output for _, output in expected]


def test_an_early_end_is_a_hypothesis_scored_with_its_end() -> None:
    ends = []
    for prompt in range(3, 60):
        asked = request(prompt, id=f"b{prompt}", max_tokens=4, n=2, beam_width=2, sampling=GREEDY)
        running = engine(FakeRunner(64))
        running.submit(asked)
        ends += run_out(running).said[asked.id].finish.values()

    assert set(ends) == {Finish.STOP, Finish.LENGTH}


def test_beams_share_what_they_have_in_common() -> None:
    runner = FakeRunner(64)
    running = engine(runner, max_step_tokens=32)
    running.submit(request(16, n=1, beam_width=4, max_tokens=12, sampling=GREEDY))
    for _ in range(5):
        running.step()

    blocks = running.look(0).blocks
    assert [block.references for block in blocks].count(4) >= 4
    run_out(running)
    assert not any(block.references for block in running.look(0).blocks)


def test_each_token_of_a_hypothesis_comes_with_its_logprob() -> None:
    sampling = Sampling(temperature=0.0, ignore_eos=True, logprobs=2)
    running = engine(FakeRunner(64))
    running.submit(request(5, n=1, beam_width=2, max_tokens=4, sampling=sampling))
    events = []
    while running.has_work:
        events += running.step()

    (advanced,) = [event for event in events if hasattr(event, "tokens")]
    assert tuple(each.token for each in advanced.logprobs) == advanced.tokens
    assert all(len(each.top) == 2 and log(1e-9) < each.logprob < 0 for each in advanced.logprobs)
