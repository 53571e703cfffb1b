"""Who runs in the next step, and on which blocks.

Three queues: *waiting* (the ordering's, `ordering/`), *prefill* and *decode* (the running groups' sequences, by state).
A step, in this order:

    decode   everyone who decodes gets one token; who needs a block that is not there takes it from the least claim
    admit    the ordering's next start, while there are slots, and blocks for all they will compute
    prefill  what the budget leaves goes to prompts in chunks: the shortest first, but none is passed over for long

Nobody who waits takes anything from those who run; among those who run, the one with the greatest claim is never
preempted, and everyone who was taken fits alone. So something always gets on, and everything ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from llmcore.block_pool import OutOfBlocks
from llmcore.block_table import BlockTables
from llmcore.decisions import DecisionLog
from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.ordering import Ordering
from llmcore.plan import Chunk, Plan
from llmcore.preemption import Preemption
from llmcore.prefix_cache import Key
from llmcore.quotas import Quotas
from llmcore.sequence import Sequence, State

PATIENCE = 4
"""Steps that a prompt may be passed over by shorter ones before it goes first."""


@dataclass(slots=True)
class Step:
    """A plan in the making."""

    budget: int
    chunks: list[Chunk] = field(default_factory=list)
    swap_out: list[tuple[int, int]] = field(default_factory=list)
    swap_in: list[tuple[int, int]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[list[int], bytes]] = field(default_factory=list)
    """Blocks, and the keys and values that restored groups bring for them; before the plan is run."""
    prompts: int = 0
    """Chunks of prompts among them."""
    computing: set[Key] = field(default_factory=set)
    """Of blocks that chunks of this step will fill, or go on filling."""
    returned: list[Group] = field(default_factory=list)
    """Whose keys and values come back to the device, and can be found by others only after this step."""
    forked: set[Sequence] = field(default_factory=set)
    """Begin on their parents' blocks, which can be found only after this step."""
    touched: set[Group] = field(default_factory=set)
    """Whose keys and values are written, moved or copied."""

    def bring_back(self, group: Group) -> None:
        self.returned.append(group)
        self.touched.add(group)

    def run(self, group: Group, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.budget -= chunk.count
        self.touched.add(group)

    @property
    def plan(self) -> Plan:
        return Plan(chunks=self.chunks, swap_out=self.swap_out, swap_in=self.swap_in, copies=self.copies)


class Scheduler:
    """Moves groups between the queues. What a step computed, it hears from the engine."""

    def __init__(
        self,
        config: EngineConfig,
        tables: BlockTables,
        *,
        ordering: Ordering,
        quotas: Quotas,
        log: DecisionLog,
        clock: Callable[[], float],
    ) -> None:
        self.waiting: set[Group] = set()
        self.running: list[Group] = []
        self.suspects: list[Group] = []
        """Took part in a step that the runner could not do. The first runs alone until it has a token, or is guilty."""
        self.preemptions = 0
        self.preemption = Preemption(config, tables, clock)
        self._config = config
        self._tables = tables
        self._pool = tables.pool
        self._ordering = ordering
        self._quotas = quotas
        self._log = log
        self._clock = clock

    def add(self, group: Group) -> None:
        """It waits from now on."""
        self.waiting.add(group)
        self._ordering.arrived(group)

    def remove(self, group: Group) -> None:
        """It has ended: everything it holds is free on return."""
        self.preemption.drop(group)
        self._ordering.left(group)
        self.waiting.discard(group)
        for queue in (self.running, self.suspects):
            if group in queue:
                queue.remove(group)

    def schedule(self) -> Step:
        """The next step; an empty one if there is nothing to do, or nothing that may be done now."""
        self.running.sort(key=self._ordering.claim)
        step = Step(self._config.max_step_tokens)
        while True:
            self._decode(step)
            self._admit(step)
            self._prefill(step)
            if step.touched or not self.running:
                return step
            if any(map(self._ready, self.running)):
                continue  # the prefix cache had all that the last of its beams lacked
            if len(self.running) == 1:
                raise OutOfBlocks(
                    f"{self.running[0].request.id} holds all blocks and lacks one: it was not to be taken"
                )
            self._preempt(self.running[-1], step, "every prompt lacked a block")

    def failed(self, step: Step) -> list[Group]:
        """The runner could not do this step. What it touched is computed again; answers who is to blame.

        Whoever took part is a suspect, and suspects run alone. So only a group that failed alone, and had failed
        before, is to blame, and nobody ends for what another did.
        """
        alone = len(step.touched) == 1
        guilty = []
        for group in sorted(step.touched, key=self._ordering.claim):
            self.preemption.drop(group)
            if group in self.running:
                self.running.remove(group)
                self._requeue(group, "the runner failed: everything of this step is computed again")
            group.strikes += 1
            if alone and group.strikes > 1:
                guilty.append(group)
            elif group not in self.suspects:
                self.suspects.append(group)
        return guilty

    def acquit(self, group: Group) -> None:
        """It has said something since the runner failed."""
        if group.strikes:
            group.strikes = 0
            self.suspects.remove(group)

    # ---- decode -----------------------------------------------------------------------------------------------------

    def _decode(self, step: Step) -> None:
        place = 0
        while place < len(self.running):  # it shrinks at its end, as victims are found there
            group = self.running[place]
            place += 1
            ready = self._ready(group)
            if ready and self._make_room(group, ready, step):
                for sequence in ready:
                    copy = self._tables.write(sequence)
                    if copy is not None:
                        step.copies.append(copy)
                    step.run(group, Chunk(sequence, sequence.computed, 1))

    def _ready(self, group: Group) -> list[Sequence]:
        """Its sequences that decode in this step. Beams go together or not at all."""
        if self.suspects and group is not self.suspects[0]:
            return []
        if group.is_searching:
            return group.live if all(sequence.uncomputed == 1 for sequence in group.live) else []
        return [sequence for sequence in group.live if sequence.state is State.DECODE]

    def _make_room(self, group: Group, ready: list[Sequence], step: Step) -> bool:
        """Whether there are blocks for a token of each; the least claims give theirs up for it, at last its own."""
        needed = self._blocks_to_write(ready)
        while needed and self._pool.available - self._reserved(besides=group) < needed:
            victim = self.running[-1]
            self._preempt(victim, step, f"{group.request.id} needed a block")
            if victim is group:
                return False
        return True

    def _blocks_to_write(self, sequences: list[Sequence]) -> int:
        """New blocks for the last token of each: the next of its table, or a copy of one that is shared."""
        needed = 0
        shared: dict[int, int] = {}
        for sequence in sequences:
            if sequence.computed == len(sequence.blocks) * self._config.block_size:
                needed += 1
            elif self._pool.references[block := sequence.blocks[-1]] > 1:
                shared[block] = shared.get(block, 0) + 1
        for block, writers in shared.items():  # the last of its users writes to it in place
            needed += min(writers, self._pool.references[block] - 1)
        return needed

    def _preempt(self, group: Group, step: Step, reason: str) -> None:
        moved = self.preemption.evict(group)
        if moved:
            step.swap_out += moved
            step.touched.add(group)
        self.running.remove(group)
        self._requeue(group, f"{reason}; {f'swapped out, {len(moved)} blocks' if moved else 'to be computed again'}")

    def _requeue(self, group: Group, reason: str) -> None:
        self.preemptions += 1
        group.preemptions += 1
        for sequence in group.live:
            sequence.preemptions += 1
        self._log.served("preempted", group, reason)
        self.add(group)

    # ---- admit ------------------------------------------------------------------------------------------------------

    def _admit(self, step: Step) -> None:
        if self.suspects:
            self._admit_suspect(self.suspects[0], step)
            return
        held: set[str] = set()
        while (group := self._ordering.next(held)) is not None:
            if cause := self._hold(group):
                self._log.waited(group, cause)
                held.add(group.tenant)
            elif cause := self._obstacle(group, step):
                self._log.waited(group, cause)
                return  # nobody overtakes it: it would starve
            else:
                self._start(group, step)

    def _admit_suspect(self, group: Group, step: Step) -> None:
        if group in self.waiting:
            while not self._fits(group):
                self._preempt(
                    self.running[-1], step, f"{group.request.id} runs alone, to find who makes the runner fail"
                )
            self._start(group, step)

    def _hold(self, group: Group) -> str:
        """Why its tenant has enough for now; empty: it has not."""
        others = [other for other in self.running if other.tenant == group.tenant]
        blocks = group.most_blocks + sum(other.most_blocks for other in others)
        return self._quotas.hold(group.tenant, running=len(others) + 1, blocks=blocks)

    def _obstacle(self, group: Group, step: Step) -> str:
        if sum(other.width for other in self.running) + group.width > self._config.max_running:
            return "every slot is taken"
        if not self._fits(group):
            return "there is no room for its keys and values"
        if group.kv is not None and step.swap_out:
            return "its keys and values would overwrite what is being swapped out"
        return ""

    def _fits(self, group: Group) -> bool:
        """Whether there are blocks for all it will compute before it says something, besides what others will."""
        first = group.live[0]
        known = self._tables.known(first) if first.state is State.WAITING and group.kv is None else []
        idle = sum(map(self._pool.is_cached, known))
        return self._needs(group) - len(known) <= self._pool.available - idle - self._reserved()

    def _start(self, group: Group, step: Step) -> None:
        resumed = group.preemptions > 0
        if group.is_swapped:
            step.swap_in += self.preemption.bring_back(group)
            step.bring_back(group)
        elif group.kv is not None:
            fresh = self._tables.rebuild(group.live)
            step.writes.append(([fresh[place] for place in sorted(fresh)], group.kv))
            step.bring_back(group)
            group.kv = None
            for sequence in group.live:
                sequence.state = State.DECODE if sequence.uncomputed == 1 and sequence.output else State.PREFILL
        else:
            for sequence in group.live:
                sequence.state = State.PREFILL
            self._tables.lookups += len(group.live[0].tokens) - 1
            self._adopt(group, group.live[0])
        self.waiting.discard(group)
        self._ordering.started(group)
        self.running.append(group)
        group.cause = ""
        for sequence in group.live:
            sequence.admitted = self._clock() if sequence.admitted is None else sequence.admitted
        self._log.note("resumed" if resumed else "started", group)

    # ---- prefill ----------------------------------------------------------------------------------------------------

    def _prefill(self, step: Step) -> None:
        """One chunk a group: its sequences go one after the other, so that each finds what the last one computed."""
        groups = [each for each in self.running if each not in step.returned and self._next_prefill(each) is not None]
        groups.sort(key=_urgency)
        for group in groups:
            if self.suspects and group is not self.suspects[0]:
                continue
            while (sequence := self._next_prefill(group)) is not None and self._adopt(group, sequence):
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

    def _next_prefill(self, group: Group) -> Sequence | None:
        held = 1 if group.is_searching else 0
        for sequence in group.live:
            if sequence.state is State.PREFILL and sequence.uncomputed > held:
                return sequence
        return None

    def _adopt(self, group: Group, sequence: Sequence) -> int:
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

    # ---- room -------------------------------------------------------------------------------------------------------

    def _reserved(self, besides: Group | None = None) -> int:
        """Blocks that those who run a prompt have yet to allocate for it."""
        return sum(
            self._needs(group)
            for group in self.running
            if group is not besides and self._next_prefill(group) is not None
        )

    def _needs(self, group: Group) -> int:
        """Blocks to allocate until each of its sequences has all it holds and room for one token more."""
        if group.is_swapped or group.kv is not None:
            blocks = {block for sequence in group.live for block in sequence.blocks}
            more = (self._tables.count_for(len(each.tokens) + 1) - len(each.blocks) for each in group.live)
            return min(group.most_blocks, len(blocks) + sum(max(1, count) for count in more))
        needed = len(group.unforked)
        common = len(group.request.prompt) // self._config.block_size if self._tables.cache is not None else 0
        for place, sequence in enumerate(group.live):
            if sequence.state is not State.DECODE:
                mine = self._tables.count_for(len(sequence.tokens) + 1) - len(sequence.blocks)
                needed += max(0, mine - (common if place and not sequence.blocks else 0))
        return min(group.most_blocks, needed)


def _urgency(group: Group) -> tuple[bool, int, int]:
    """How prompts share the budget: whoever was passed over for long, by age; then the shortest."""
    if group.passed_over >= PATIENCE:
        return False, 0, group.arrival
    return True, group.uncomputed, group.arrival
