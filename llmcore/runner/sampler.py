"""Logits into tokens. What one sequence gets depends on its own logits and request, and on nothing beside it.

In this order, as OpenAI's API and transformers have it: grammar, penalties, temperature, top-k, top-p, the draw. The
draw is a number hashed from seed, sample and position: no generator has a state that could be lost, shared or saved.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence as Many
from typing import Final, Protocol

import torch
from torch import Tensor

from llmcore.plan import Pick
from llmcore.request import Sampling
from llmcore.sequence import Logprob, Sequence

NO_NUMBERS: Final = "the model's logits were no numbers"
NOTHING_ALLOWED: Final = "its grammar left no token"

HEAD: Final = 1024
"""Tokens among which the nucleus of top-p usually lies: the whole vocabulary is sorted only where it does not."""


class Matcher(Protocol):
    """What `Sequence.grammar` must do here; `grammar.py` has it."""

    def mask(self, row: Tensor) -> None:
        """Into int32 `(ceil(vocabulary / 32),)`: bit `i % 32` of word `i // 32` set: token `i` may come next."""
        ...

    def accept(self, token: int) -> None: ...

    @property
    def failure(self) -> str:
        """Why nothing may come next, where it knows."""
        ...


def pick(logits: Tensor, sequences: Many[Sequence]) -> list[Pick]:
    """One token for each row of `(num_rows, vocabulary)`. Its grammar has accepted it; a beam's has not, since the
    engine forks those.

    A row with anything in it that is no number fails alone.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    sound = logits.sum(-1).isfinite().tolist()  # NaN or infinity anywhere makes the sum no number
    best = logits.argmax(-1).tolist()  # the first of equals; right away for the many that are plain
    return [
        _pick(row, sequence, first) if is_sound else Pick(0, failed=NO_NUMBERS)
        for row, sequence, first, is_sound in zip(logits, sequences, best, sound, strict=True)
    ]


def draw(seed: int, index: int, position: int) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.blake2b(f"{seed},{index},{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def _pick(raw: Tensor, sequence: Sequence, best: int) -> Pick:
    request, matcher = sequence.request, sequence.grammar
    allowed = raw if matcher is None else raw.masked_fill(~_mask(matcher, raw), float("-inf"))
    if matcher is not None and bool(allowed.max().isneginf()):
        return Pick(0, failed=matcher.failure or NOTHING_ALLOWED)
    if request.beam_width > 1:
        return _candidates(raw, allowed, 2 * request.beam_width)
    token = _token(allowed, sequence, best if matcher is None else None)
    if matcher is not None:
        matcher.accept(token)
    return Pick(token, None if request.sampling.logprobs is None else _logprob(raw, token, request.sampling.logprobs))


def _mask(matcher: Matcher, row: Tensor) -> Tensor:
    """Bool `(vocabulary,)`; made on the host, where grammars live."""
    words = torch.zeros(-(-len(row) // 32), dtype=torch.int32)
    matcher.mask(words)
    return (words.unsqueeze(-1) >> torch.arange(32) & 1).bool().view(-1)[: len(row)].to(row.device)


def _token(logits: Tensor, sequence: Sequence, best: int | None) -> int:
    """`best`: the highest logit's, where nothing was masked."""
    sampling = sequence.request.sampling
    if sampling.presence_penalty or sampling.frequency_penalty:
        logits, best = _penalised(logits, sequence.output, sampling), None
    if sampling.temperature <= 0:
        return int(logits.argmax()) if best is None else best
    return _drawn(logits, sampling, draw(sampling.seed, sequence.index, len(sequence.tokens)))


def _penalised(logits: Tensor, output: list[int], sampling: Sampling) -> Tensor:
    """By what the output holds already: once for being there, and for each time."""
    if not output:
        return logits
    counts = Counter(output)
    penalties = [sampling.presence_penalty + sampling.frequency_penalty * count for count in counts.values()]
    return logits.index_add(
        0,
        torch.tensor(list(counts), device=logits.device),
        torch.tensor(penalties, dtype=logits.dtype, device=logits.device),
        alpha=-1,
    )


def _drawn(logits: Tensor, sampling: Sampling, uniform: float) -> int:
    """The token at `uniform` of the cumulative distribution, of what top-k and top-p leave."""
    # from the highest down, so that no temperature overflows; fp64, so that a long tail still adds up
    weights = ((logits - logits.max()).double() / sampling.temperature).exp_()
    tokens = None
    if 0 < sampling.top_k < len(weights):
        weights, tokens = weights.topk(sampling.top_k)
    if sampling.top_p < 1:
        weights, order = _nucleus(weights, sampling.top_p)
        tokens = order if tokens is None else tokens[order]
    cumulative = weights.cumsum(0)
    place = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    if place == len(weights):  # rounding only
        place = int(weights.argmax())
    return place if tokens is None else int(tokens[place])


def _nucleus(weights: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest heaviest whose weights reach `top_p` of all, heaviest first, and where they stood."""
    wanted = top_p * weights.sum()
    found, order = weights.topk(min(HEAD, len(weights)))
    if found.sum() < wanted:
        found, order = weights.sort(descending=True)
    before = found.cumsum(0) - found
    count = max(1, int((before < wanted).sum()))
    return found[:count], order[:count]


def _logprob(raw: Tensor, token: int, alternatives: int) -> Logprob:
    logprobs = raw.log_softmax(-1)
    return Logprob(token, float(logprobs[token]), _top(logprobs, alternatives))


def _candidates(raw: Tensor, allowed: Tensor, count: int) -> Pick:
    """For a beam: the likeliest of those allowed, each with what the model gave it before the mask."""
    logprobs = raw.log_softmax(-1).masked_fill(allowed.isneginf(), float("-inf"))
    top = _top(logprobs, count)
    token, logprob = top[0]
    return Pick(token, Logprob(token, logprob, top))


def _top(logprobs: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    found, tokens = logprobs.topk(min(count, len(logprobs)))
    return tuple(
        (token, logprob)
        for token, logprob in zip(tokens.tolist(), found.tolist(), strict=True)
        if logprob > float("-inf")
    )
