"""A group between two steps as plain values: enough to go on elsewhere, token for token.

Nothing else decides what comes next: a draw depends on seed, sample and position alone, and a grammar's state on the
output. The keys and values are a convenience; without them the tokens are computed again.
"""

from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import TypeAlias

from msgspec import Struct

from llmcore.group import Group
from llmcore.request import Finish, Request
from llmcore.sequence import Logprob, Sequence, State

ReadBlocks: TypeAlias = Callable[[Many[int], Many[int]], bytes]
"""`Runner.read_blocks`."""


class SavedSequence(Struct, frozen=True, kw_only=True):
    """One sample or beam; or a hypothesis of a beam search that has ended."""

    index: int
    output: tuple[int, ...]
    logprobs: tuple[Logprob, ...] = ()
    score: float = 0.0
    finish: Finish | None = None
    detail: str = ""
    is_forked: bool = True
    """False: nothing of it has run yet; it begins when the prompt is computed."""
    computed: int = 0
    """Tokens whose keys and values are saved."""
    blocks: tuple[int, ...] = ()
    """Its block table, as numbers of the blocks in `Saved.kv`; two that share a block have one number for it."""
    cached: int = 0
    preemptions: int = 0
    block_seconds: float = 0.0


class Saved(Struct, frozen=True, kw_only=True):
    request: Request
    sequences: tuple[SavedSequence, ...]
    kv: bytes | None = None
    """As the runner gave it, of blocks 0, 1, ... in order."""


def save(group: Group, block_size: int, read_blocks: ReadBlocks | None) -> Saved:
    """What the group is now; with its keys and values, where they can be read and lie on the device."""
    on_device = all(sequence.state in (State.PREFILL, State.DECODE) for sequence in group.live)
    numbers: dict[int, int] = {}
    filled: dict[int, int] = {}
    if read_blocks is not None and on_device:
        for sequence in group.live:
            for place, block in enumerate(sequence.blocks):
                numbers.setdefault(block, len(numbers))
                slots = min(block_size, max(0, sequence.computed - place * block_size))
                filled[block] = max(slots, filled.get(block, 0))
    running = group.live + group.unforked
    ended = group.hypotheses if group.is_beam else [each for each in group.sequences if each.finish is not None]
    return Saved(
        request=group.request,
        sequences=tuple(_saved(group, sequence, numbers) for sequence in [*running, *ended]),
        kv=read_blocks(list(filled), list(filled.values())) if read_blocks is not None and filled else None,
    )


def restore(saved: Saved, group: Group) -> None:
    """Make a group that has not run what the saved one was."""
    sequences = group.sequences
    group.live, group.unforked = [], []
    for each in saved.sequences:
        if group.is_beam and each.finish is not None:
            hypothesis = Sequence(id=sequences[0].id, request=group.request, index=0, tokens=[])
            _fill(hypothesis, each, group)
            group.hypotheses.append(hypothesis)
            continue
        sequence = sequences[each.index]
        _fill(sequence, each, group)
        if each.finish is None:
            (group.live if each.is_forked else group.unforked).append(sequence)
    if saved.kv is not None:
        group.kv = saved.kv
        for each in saved.sequences:
            if each.blocks:
                sequences[each.index].computed = each.computed
                sequences[each.index].blocks = list(each.blocks)
    group.restored_block_seconds = sum(sequence.block_seconds for sequence in sequences)


def _saved(group: Group, sequence: Sequence, numbers: dict[int, int]) -> SavedSequence:
    return SavedSequence(
        index=sequence.index,
        output=tuple(sequence.output),
        logprobs=tuple(sequence.logprobs),
        score=sequence.score,
        finish=sequence.finish,
        detail=sequence.detail,
        is_forked=sequence not in group.unforked,
        computed=sequence.computed if numbers else 0,
        blocks=tuple(numbers[block] for block in sequence.blocks) if numbers and sequence.finish is None else (),
        cached=sequence.cached,
        preemptions=sequence.preemptions,
        block_seconds=sequence.block_seconds,
    )


def _fill(sequence: Sequence, saved: SavedSequence, group: Group) -> None:
    sequence.tokens = [*group.request.prompt, *saved.output]
    sequence.logprobs = list(saved.logprobs)
    sequence.score = saved.score
    sequence.cached = saved.cached
    sequence.preemptions = saved.preemptions
    sequence.block_seconds = saved.block_seconds
    if saved.finish is not None:
        sequence.finish, sequence.detail, sequence.state = saved.finish, saved.detail, State.FINISHED
