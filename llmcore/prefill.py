"""How prompts share what a step has left: in chunks, the shortest first, each prefix once.

A short prompt waits neither behind a long one nor with it: where somebody's first token comes of a step, prompts that
will not end in it have little of it, so that it is soon over. In return one step of `PATIENCE` + 1 begins with whoever
was passed over for the longest: so of `n` prompts each goes first at least once in `n (PATIENCE + 1)` steps.

A prompt whose next block another fills in this very step lets it, and finds it in the next: that is never dearer than
to compute it twice, and it cannot go on for long, since the other gets on with every step that is waited for.
"""

from llmcore.block_table import BlockTables
from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.plan import Chunk
from llmcore.sequence import Sequence, State
from llmcore.step import Step

PATIENCE = 4
"""Steps that a prompt may be passed over by shorter ones, and that shorter ones then have again."""
LEAST = 0.25
"""Of a step's budget: what prompts have of it at least, however much is decoded; what those of them that go on have of
it at most beside one that ends; and what one may take beyond it to end, since another step would cost as much."""


class Prefill:
    """Makes the chunks of prompts, and the forks where a prompt ends."""

    def __init__(self, config: EngineConfig, tables: BlockTables) -> None:
        self._config = config
        self._tables = tables
        self._pool = tables.pool
        self._steps = 0
        """Since one began with who had been passed over."""

    def fill(self, step: Step, running: list[Group]) -> None:
        """One chunk a group: its sequences go one after the other, so that each finds what the last one computed."""
        least = LEAST * self._config.max_step_tokens
        step.budget = max(step.budget, least)
        step.kept = step.budget - least
        for group in self._queue([each for each in running if each not in step.returned]):
            while (sequence := next_prefill(group)) is not None and self.adopt(group, sequence):
                pass  # that may have been all that it lacked
            if sequence is None:
                continue
            key = self._tables.next_key(sequence)
            if key is not None and key in step.computing:
                continue  # another fills that very block in this step: to wait for it is cheaper than to do it twice
            count = self._chunk_size(group, sequence, step)
            gave_way = step.ends_prompt and count < sequence.uncomputed
            group.passed_over = 0 if count and not gave_way else group.passed_over + 1
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

    def _queue(self, running: list[Group]) -> list[Group]:
        """Those with a prompt, in the order in which they are given their chunks."""
        queue = [group for group in running if next_prefill(group) is not None]
        queue.sort(key=lambda group: (self._cost(group), group.arrival))
        self._steps += 1
        if self._steps > PATIENCE and queue:
            late = max(queue, key=lambda group: (group.passed_over, -group.arrival))
            if late.passed_over >= PATIENCE:
                queue.remove(late)
                queue.insert(0, late)
                self._steps = 0
        return queue

    def _cost(self, group: Group) -> float:
        """Of what it has yet to compute, in tokens that have nothing before them."""
        return sum(each.uncomputed * self._config.price(each.computed) for each in group.live)

    def _chunk_size(self, group: Group, sequence: Sequence, step: Step) -> int:
        """How many of its tokens run in this step."""
        count = left = sequence.uncomputed
        if self._config.chunked:
            count = min(count, self._affordable(sequence, step))
        elif step.prompts and count + len(group.unforked) > self._affordable(sequence, step):
            return 0
        count = min(count, (len(sequence.blocks) + self._pool.available) * self._config.block_size - sequence.computed)
        if count < left:
            return count if self._config.chunked else 0
        if group.is_searching:
            return left - 1  # all beams run their last token in one step
        if self._config.chunked and not group.is_beam and step.prompts and len(group.unforked) > step.budget - count:
            return count - 1  # all samples draw from the same logits: the last token is run for each of them
        return count

    def _affordable(self, sequence: Sequence, step: Step) -> int:
        """How many of its tokens the budget pays for. The first prompt of a step gets on in any case."""
        price = self._config.price(sequence.computed)
        if sequence.uncomputed * price <= step.budget + LEAST * self._config.max_step_tokens:
            return sequence.uncomputed
        return max(round((step.budget - step.kept * step.ends_prompt) / price), 0 if step.prompts else 1)

    def _run_chunk(self, group: Group, sequence: Sequence, count: int, step: Step) -> None:
        self._tables.grow(sequence, sequence.computed + count)
        chunk = Chunk(sequence, sequence.computed, count)
        step.run(group, chunk)
        step.prompts += 1
        step.ends_prompt |= chunk.samples
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
