"""What becomes of a row of logits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.models import alone
from torch import Tensor

from llmcore.request import Request, Sampling
from llmcore.runner.sampler import NO_NUMBERS, NOTHING_ALLOWED, draw, pick
from llmcore.sequence import Sequence

VOCABULARY = 40


class Only:
    """A grammar that allows some tokens, and remembers what was accepted."""

    failure = ""

    def __init__(self, *allowed: int) -> None:
        self.allowed = allowed
        self.accepted: list[int] = []

    def mask(self, row: Tensor) -> None:
        for token in self.allowed:
            row[token // 32] |= torch.tensor(1, dtype=torch.int32) << (token % 32)

    def accept(self, token: int) -> None:
        self.accepted.append(token)


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def asked(index: int = 0, **sampling: float) -> Sequence:
    return alone([1, 2, 3], blocks=[0], index=index, **sampling)


def drawn(logits: Tensor, count: int, **sampling: float) -> list[int]:
    """As many draws as seeds."""
    sequences = [asked(seed=seed, **sampling) for seed in range(count)]
    return [each.token for each in pick(logits.expand(count, -1), sequences)]


def test_temperature_0_takes_the_highest_logit_and_the_lowest_id_of_equals() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, [7, 11]] = 5.0

    assert pick(logits, [asked(temperature=0.0)])[0].token == 7


def test_draws_are_distributed_as_the_softmax_says() -> None:
    logits = torch.full((1, VOCABULARY), -math.inf)
    logits[0, :3] = torch.tensor([0.5, 0.3, 0.2]).log()

    tokens = drawn(logits.clamp_min(-1e30), 4000, temperature=1.0)

    assert [tokens.count(token) / 4000 for token in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert set(tokens) == {0, 1, 2}


def test_a_temperature_next_to_nothing_is_greedy() -> None:
    logits = rows(1)

    assert set(drawn(logits, 50, temperature=1e-300)) == {int(logits.argmax())}


def test_top_k_and_top_p_leave_the_likeliest() -> None:
    logits = rows(1)
    order = logits[0].argsort(descending=True).tolist()
    weights = logits[0].softmax(-1)[order].cumsum(0)
    nucleus = int((weights < 0.8).sum()) + 1

    assert set(drawn(logits, 500, top_k=3)) == set(order[:3])
    assert set(drawn(logits, 3000, top_p=0.8)) <= set(order[:nucleus])
    assert set(drawn(logits, 500, top_p=0.01)) == {order[0]}


def test_a_nucleus_wider_than_the_usual_is_still_whole() -> None:
    flat = torch.zeros(1, 5000)

    tokens = drawn(flat, 400, top_p=0.999)

    assert len(set(tokens)) > 300


def test_penalties_count_what_the_output_holds() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, [4, 5, 6]] = torch.tensor([3.0, 2.5, 2.0])
    once, twice = asked(temperature=0.0, presence_penalty=0.6), asked(temperature=0.0, frequency_penalty=0.3)
    once.tokens += [4]
    twice.tokens += [4, 4]

    assert pick(logits, [once])[0].token == 5
    assert pick(logits, [twice])[0].token == 5
    assert pick(logits, [asked(temperature=0.0, presence_penalty=0.6)])[0].token == 4


def test_logprobs_are_the_model_s_before_temperature_penalties_and_masks() -> None:
    logits = rows(1)
    sequence = asked(temperature=0.1, logprobs=2, presence_penalty=2.0)
    sequence.grammar = Only(9)

    found = pick(logits, [sequence])[0].logprob

    assert found is not None
    expected = logits[0].log_softmax(-1)
    assert (found.token, found.logprob) == (9, pytest.approx(float(expected[9])))
    assert [token for token, _ in found.top] == expected.topk(2).indices.tolist()


def test_a_grammar_s_mask_holds_whatever_the_logits_are_and_it_hears_what_was_taken() -> None:
    sequence = asked(temperature=1.0, top_p=0.5)
    sequence.grammar = grammar = Only(0, 33, 39)

    tokens = [pick(rows(1, seed), [sequence])[0].token for seed in range(50)]

    assert set(tokens) <= {0, 33, 39}
    assert grammar.accepted == tokens


def test_logits_that_are_no_numbers_fail_their_own_row_alone() -> None:
    logits = rows(4)
    logits[1, 3] = math.nan
    logits[2, 5] = math.inf
    sequences = [asked(temperature=0.0) for _ in range(4)]

    picks = pick(logits, sequences)

    assert [each.failed for each in picks] == ["", NO_NUMBERS, NO_NUMBERS, ""]
    assert [picks[0].token, picks[3].token] == logits[[0, 3]].argmax(-1).tolist()


def test_a_grammar_that_allows_nothing_fails_its_own_row_alone() -> None:
    stuck, free = asked(temperature=0.0), asked(temperature=0.0)
    stuck.grammar = Only()

    failed, taken = pick(rows(2), [stuck, free])

    assert failed.failed == NOTHING_ALLOWED
    assert not taken.failed


def test_a_beam_gets_twice_its_width_in_candidates_and_its_grammar_hears_nothing() -> None:
    request = Request(
        id="b", tenant="t", domain="d", prompt=(1,), max_tokens=4, beam_width=3, sampling=Sampling(temperature=0)
    )
    sequence = Sequence(id=0, request=request, index=0, tokens=[1])
    sequence.grammar = grammar = Only(2, 4, 6, 8, 10)
    logits = rows(1)

    found = pick(logits, [sequence])[0].logprob

    assert found is not None
    expected = logits[0].log_softmax(-1)[[2, 4, 6, 8, 10]].sort(descending=True)
    assert [logprob for _, logprob in found.top] == pytest.approx(expected.values.tolist())
    assert grammar.accepted == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 2**70), st.integers(0, 4))
def test_a_draw_is_the_same_whatever_runs_beside_it(others: list[int], seed: int, index: int) -> None:
    mine = rows(1, seed=99)
    sampling = {"temperature": 0.9, "top_p": 0.95}
    expected = pick(mine, [asked(index, seed=seed, **sampling)])[0].token

    logits = torch.cat([rows(len(others)), mine])
    beside = [asked(temperature=float(other), seed=other) for other in others]

    assert pick(logits, [*beside, asked(index, seed=seed, **sampling)])[-1].token == expected


def test_seed_sample_and_position_each_change_the_draw() -> None:
    draws = [draw(seed, index, position) for seed in range(10) for index in range(10) for position in range(10)]

    assert len(set(draws)) == 1000
    assert all(0 <= each < 1 for each in draws)
    assert sum(draws) / 1000 == pytest.approx(0.5, abs=0.03)
