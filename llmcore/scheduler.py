"""Who runs in the next step, and on which blocks.

Three queues: *waiting* (the ordering's, `ordering/`), *prefill* and *decode* (the running groups' sequences, by state).
A step, in this order:

    decode   everyone who decodes gets one token; who needs a block that is not there takes it from the least claim
    admit    the ordering's next start, while there are slots, and blocks for all they will compute
    prefill  what the budget leaves goes to prompts in chunks: the shortest first, but none is passed over for long

A budget is of time, counted in tokens: it is how long whoever comes meanwhile waits.

Nobody who waits takes anything from those who run; among those who run, the one with the greatest claim is never
preempted, and everyone who was taken fits alone. So something always gets on, and everything ends.
"""

from collections.abc import Callable

from llmcore.block_pool import OutOfBlocks
from llmcore.block_table import BlockTables
from llmcore.decisions import DecisionLog
from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.ordering import Ordering
from llmcore.plan import Chunk
from llmcore.preemption import Preemption
from llmcore.prefill import Prefill, next_prefill
from llmcore.quotas import Quotas
from llmcore.sequence import Sequence, State
from llmcore.step import Step


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
        self._prefill = Prefill(config, tables)
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
        step = Step(self._config)
        while True:
            self._decode(step)
            self._admit(step)
            self._prefill.fill(step, self._allowed())
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

    def _allowed(self) -> list[Group]:
        """The running groups that may take part now."""
        return [group for group in self.running if group is self.suspects[0]] if self.suspects else self.running

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
        running = sum(other.width for other in others) + (group.width if others else 1)  # alone it may always run
        return self._quotas.hold(group.tenant, running=running, blocks=blocks)

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
            self._prefill.adopt(group, group.live[0])
        self.waiting.discard(group)
        self._ordering.started(group)
        self.running.append(group)
        group.cause = ""
        for sequence in group.live:
            sequence.admitted = self._clock() if sequence.admitted is None else sequence.admitted
        self._log.note("resumed" if resumed else "started", group)

    # ---- room -------------------------------------------------------------------------------------------------------

    def _reserved(self, besides: Group | None = None) -> int:
        """Blocks that those who run a prompt have yet to allocate for it."""
        return sum(
            self._needs(group) for group in self.running if group is not besides and next_prefill(group) is not None
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
