"""How prompts share what a step has left: in chunks, the shortest first, each prefix once.

A short prompt does not wait behind a long one, and a long one is not passed over for more than `PATIENCE` steps. A
prompt whose next block another fills in this very step lets it, and finds it in the next: that is never dearer than to
compute it twice, and it cannot go on for long, since the other gets on with every step that is waited for.
"""

from llmcore.block_table import BlockTables
from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.plan import Chunk
from llmcore.sequence import Sequence, State
from llmcore.step import Step

PATIENCE = 4
"""Steps that a prompt may be passed over by shorter ones before it goes first."""


class Prefill:
    """Makes the chunks of prompts, and the forks where a prompt ends."""

    def __init__(self, config: EngineConfig, tables: BlockTables) -> None:
        self._config = config
        self._tables = tables
        self._pool = tables.pool

    def fill(self, step: Step, running: list[Group]) -> None:
        """One chunk a group: its sequences go one after the other, so that each finds what the last one computed."""
        groups = [each for each in running if each not in step.returned and next_prefill(each) is not None]
        groups.sort(key=_urgency)
        for group in groups:
            while (sequence := next_prefill(group)) is not None and self.adopt(group, sequence):
                pass  # that may have been all that it lacked
            if sequence is None:
                continue
            key = self._tables.next_key(sequence)
            if key is not None and key in step.computing:
                continue  # another fills that very block in this step: to wait for it is cheaper than to do it twice
            count = self._chunk_size(group, sequence, step)
            group.passed_over = 0 if count else group.passed_over + 1
            if count:
                self._run_chunk(group, sequence, count, step)
                if key is not None:
                    step.computing.add(key)

    def adopt(self, group: Group, sequence: Sequence) -> int:
        """Go on with what the prefix cache has; answers how many tokens that spares."""
        spared = self._tables.adopt(sequence)
        group.bill.cached_tokens += spared
        if not sequence.preemptions:
            sequence.cached += spared
        return spared

    def _chunk_size(self, group: Group, sequence: Sequence, step: Step) -> int:
        """How many of its tokens run in this step."""
        count = left = sequence.uncomputed
        if self._config.chunked:
            count = min(count, step.budget)
        elif step.prompts and count + len(group.unforked) > step.budget:
            return 0
        count = min(count, (len(sequence.blocks) + self._pool.available) * self._config.block_size - sequence.computed)
        if count < left:
            return count if self._config.chunked else 0
        if group.is_searching:
            return left - 1  # all beams run their last token in one step
        if self._config.chunked and not group.is_beam and count + len(group.unforked) > step.budget:
            return count - 1  # all samples draw from the same logits: there must be room for the last token of each
        return count

    def _run_chunk(self, group: Group, sequence: Sequence, count: int, step: Step) -> None:
        self._tables.grow(sequence, sequence.computed + count)
        chunk = Chunk(sequence, sequence.computed, count)
        step.run(group, chunk)
        step.prompts += 1
        if chunk.samples and not group.is_beam:
            for sample in group.unforked:
                self._fork(group, sequence, sample, step)
            group.unforked.clear()

    def _fork(self, group: Group, parent: Sequence, sample: Sequence, step: Step) -> None:
        """A sample begins on its parent's blocks: it runs the prompt's last token too, to draw from its logits.

        That writes what the parent writes to the same slot in the same step, so nothing needs to be copied for it.
        """
        self._tables.fork(parent, sample)
        sample.computed = len(sample.tokens) - 1
        sample.state = State.PREFILL
        sample.admitted = parent.admitted
        group.live.append(sample)
        step.forked.add(sample)
        step.run(group, Chunk(sample, sample.computed, 1))


def next_prefill(group: Group) -> Sequence | None:
    """The first of its sequences that has something to compute; of beams, besides their last tokens."""
    held = 1 if group.is_searching else 0
    for sequence in group.live:
        if sequence.state is State.PREFILL and sequence.uncomputed > held:
            return sequence
    return None


def _urgency(group: Group) -> tuple[bool, int, int]:
    """How prompts share the budget: whoever was passed over for long, by age; then the shortest."""
    if group.passed_over >= PATIENCE:
        return False, 0, group.arrival
    return True, group.uncomputed, group.arrival
