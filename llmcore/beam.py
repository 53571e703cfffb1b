"""Beam search by forks: at every step the best continuations of all beams become the beams.

A beam that goes on in several ways is forked, so all share the blocks of what they have in common; one that goes on in
none gives its blocks back. What has ended is ranked by the mean of its tokens' log-probabilities, the end of text among
them (Wu et al. 2016 with alpha = 1, as in transformers' `length_penalty=1`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from llmcore.block_table import BlockTables
from llmcore.group import Group
from llmcore.plan import Pick
from llmcore.request import Finish
from llmcore.sequence import Logprob, Sequence, State


@dataclass(frozen=True, slots=True)
class _Way:
    """One token more for one beam."""

    score: float
    parent: Sequence
    logprob: Logprob


def advance(group: Group, picks: Iterable[tuple[Sequence, Pick]], tables: BlockTables, eos: frozenset[int]) -> None:
    """One step of all beams. `group.live` is empty when the search is over; `best` has its result."""
    width = group.request.beam_width
    ways = sorted(
        (way for sequence, pick in picks for way in _ways(sequence, pick)),
        key=lambda way: (-way.score, way.parent.index, way.logprob.token),
    )
    chosen: list[_Way] = []
    for way in ways[: 2 * width]:
        if way.logprob.token in eos and not group.request.sampling.ignore_eos:
            _conclude(group, way.parent, way, Finish.STOP)
        elif len(chosen) < width:
            chosen.append(way)
    _become(group, chosen, tables)
    for sequence in group.live:
        if len(sequence.output) >= group.request.max_tokens:
            _conclude(group, sequence, None, Finish.LENGTH)
    if _is_over(group):
        for sequence in group.live:
            tables.release(sequence)
        group.live.clear()


def best(group: Group) -> list[Sequence]:
    """The `n` best hypotheses, best first, numbered by rank."""
    found = group.hypotheses[: group.request.n]
    for rank, sequence in enumerate(found):
        sequence.index = rank
    return found


def _ways(sequence: Sequence, pick: Pick) -> Iterable[_Way]:
    assert pick.logprob is not None, "a beam's pick comes with its candidates"
    wanted = pick.logprob.top[: _alternatives(sequence)]
    for token, logprob in pick.logprob.top:
        yield _Way(sequence.score + logprob, sequence, Logprob(token, logprob, wanted))


def _alternatives(sequence: Sequence) -> int:
    return sequence.request.sampling.logprobs or 0


def _become(group: Group, chosen: list[_Way], tables: BlockTables) -> None:
    """Beams that go on keep their first way; the other ways go to beams that were dropped, or not yet begun."""
    parents = {way.parent for way in chosen}
    spare = [sequence for sequence in group.sequences if sequence not in parents]
    for sequence in group.live:
        if sequence not in parents:
            tables.release(sequence)
    group.unforked.clear()
    taken: set[Sequence] = set()
    beams: list[tuple[Sequence, _Way]] = []
    for way in chosen:
        if way.parent in taken:
            beam = spare.pop()
            tables.fork(way.parent, beam)
            beam.logprobs = list(way.parent.logprobs)
            beam.state = State.DECODE
        else:
            taken.add(beam := way.parent)
        beams.append((beam, way))
    for beam, way in beams:
        beam.tokens.append(way.logprob.token)
        beam.score = way.score
        if group.request.sampling.logprobs is not None:
            beam.logprobs.append(way.logprob)
    group.live = [beam for beam, _ in beams]


def _conclude(group: Group, sequence: Sequence, way: _Way | None, finish: Finish) -> None:
    """Keep it among the best, if it is; its blocks are not its own."""
    score, length = (way.score, len(sequence.output) + 1) if way else (sequence.score, len(sequence.output))
    group.hypotheses.append(
        Sequence(
            id=sequence.id,
            request=group.request,
            index=0,
            tokens=list(sequence.tokens),
            state=State.FINISHED,
            finish=finish,
            logprobs=list(sequence.logprobs),
            score=score / length,
            arrived=sequence.arrived,
        )
    )
    group.hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    del group.hypotheses[group.request.beam_width :]


def _is_over(group: Group) -> bool:
    """Whether no beam, at the mean it has now, would still be kept."""
    if not group.live:
        return True
    if len(group.live[0].output) >= group.request.max_tokens:
        return True
    if len(group.hypotheses) < group.request.beam_width:
        return False
    leader = max(sequence.score / len(sequence.output) for sequence in group.live)
    return leader <= group.hypotheses[-1].score
