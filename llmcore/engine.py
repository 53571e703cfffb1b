"""The engine: a step is schedule, run, postprocess.

Synchronous and single-threaded; whoever has it turns it (`service.py`). Between two steps every request can be
cancelled, ended, saved, or looked at.
"""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import Any

from llmcore import beam
from llmcore.admission import Admission
from llmcore.block_pool import BlockPool
from llmcore.block_table import BlockTables
from llmcore.decisions import DecisionLog
from llmcore.engine_config import EngineConfig
from llmcore.events import Advanced, Ended, Event
from llmcore.group import Group
from llmcore.looking import Figures, look
from llmcore.messages import Decision, Seen
from llmcore.ordering import Ordering
from llmcore.plan import Chunk, Pick, Runner
from llmcore.prefix_cache import PrefixCache
from llmcore.quotas import Quotas
from llmcore.request import Finish, Grammar, RefusalCode, Refused, Request
from llmcore.saved import Saved, restore, save
from llmcore.scheduler import Scheduler
from llmcore.sequence import Logprob, Sequence, State
from llmcore.step import Step

__all__ = ["Engine", "EngineConfig"]

logger = logging.getLogger(__name__)


class Engine:
    """One model, one KV cache, many requests."""

    def __init__(
        self,
        runner: Runner,
        *,
        config: EngineConfig,
        ordering: Ordering,
        clock: Callable[[], float],
        matcher: Callable[[Grammar], Any] | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        """
        Args:
            clock: seconds, never going backwards; decisions are stamped with it, so make it Unix time.
            matcher: makes the state of a grammar at its beginning, with `accept(token)`; None: there are none here.
        """
        self.runner = runner
        self.config = config
        self._clock = clock
        self._quotas = quotas or Quotas()
        self._admission = Admission(runner.shape, config, self._quotas, matcher)
        self._ordering = ordering
        pool = BlockPool(config.num_blocks, clock=clock)
        cache = PrefixCache(pool) if config.prefix_cache else None
        self._tables = BlockTables(pool, cache, block_size=config.block_size)
        self._log = DecisionLog(clock)
        self._scheduler = Scheduler(
            config, self._tables, ordering=ordering, quotas=self._quotas, log=self._log, clock=clock
        )
        self._groups: dict[str, Group] = {}
        self._events: list[Event] = []
        self._figures = Figures()

    # ---- requests ---------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Refused | None:
        """Queue it, or say why not."""
        return self._admit(request, None)

    def restore(self, request: Request, saved: Saved) -> Refused | None:
        """Go on where a saved request was, under this id, tenant, domain and label; the rest of it is as it was.

        Its events begin with what had been said.
        """
        return self._admit(request, saved)

    def cancel(self, id: str) -> bool:
        """End it now; its blocks are free on return. False: there is no such request."""
        group = self._groups.get(id)
        if group is None:
            return False
        self._abort(group, Finish.CANCELLED, "cancelled")
        return True

    def finish(self, sequence: Sequence, finish: Finish) -> None:
        """End one sample now, for what its text says; its blocks are free on return. Of no effect once it has ended."""
        group = self._groups.get(sequence.request.id)
        if group is not None and sequence in group.live:
            self._end(group, sequence, finish)

    def save(self, id: str) -> Saved | None:
        """What it is now, without keys and values; it goes on. None: there is no such request."""
        group = self._groups.get(id)
        if group is None:
            return None
        self._settle(group)
        return save(group, self.config.block_size, None)

    def take(self, id: str) -> Saved | None:
        """What it is now, with keys and values where they are at hand; here it ends. None: there is no such request."""
        group = self._groups.get(id)
        if group is None:
            return None
        self._settle(group)
        saved = save(group, self.config.block_size, self.runner.read_blocks)
        self._abort(group, Finish.SUSPENDED, "suspended")
        return saved

    # ---- steps ------------------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether a step would do or say something."""
        return bool(self._groups or self._events)

    def step(self) -> list[Event]:
        """Schedule, run, postprocess; answers what came of it, and what ended since the last step."""
        step = self._scheduler.schedule()
        picks = self._run(step) if step.touched else None
        if picks is not None:
            self._postprocess(step, picks)
        events, self._events = self._events, []
        return events

    def decisions(self) -> list[Decision]:
        """Since they were last asked for."""
        return self._log.drained()

    def look(self, token: int) -> Seen:
        for group in self._groups.values():
            self._settle(group)
        return look(
            token=token,
            shape=self.runner.shape,
            now=self._clock(),
            groups=self._groups.values(),
            scheduler=self._scheduler,
            tables=self._tables,
            ordering=self._ordering,
            figures=self._figures,
        )

    # ---- admission --------------------------------------------------------------------------------------------------

    def _admit(self, request: Request, saved: Saved | None) -> Refused | None:
        if request.id in self._groups:
            reason = f"{request.id} is the id of another request"
            considered: Group | Refused = Refused(id=request.id, code=RefusalCode.INVALID, reason=reason)
        else:
            considered = self._admission.consider(request, waiting=self._scheduler.waiting, now=self._clock())
        if isinstance(considered, Refused):
            self._figures.refused += 1
            self._log.refused(request, considered)
            return considered
        self._log.note("admitted", considered, "" if saved is None else "restored")
        self._groups[request.id] = considered
        if saved is not None:
            restore(saved, considered)
            self._repeat(considered)
        self._scheduler.add(considered)
        return None

    def _repeat(self, group: Group) -> None:
        """Say again what a restored group had said."""
        if group.is_beam:
            return
        for sequence in group.sequences:
            sequence.grammar = self._admission.grammar(group.request, sequence.output)
            if sequence.output:
                self._events.append(Advanced(sequence, tuple(sequence.output), tuple(sequence.logprobs)))
            if sequence.finish is not None:
                self._events.append(Ended(sequence, sequence.finish))

    # ---- run --------------------------------------------------------------------------------------------------------

    def _run(self, step: Step) -> Many[Pick] | None:
        """None: the runner could not. Everything of the step is computed again, or ends, and the engine goes on."""
        try:
            for blocks, kv in step.writes:
                self.runner.write_blocks(blocks, kv)
            return [] if step.plan.is_empty else self.runner.run(step.plan)
        except Exception as error:  # out of memory, a kernel that broke: what it was doing is lost, nothing else is
            logger.exception("the model could not do a step", extra={"sequences": len(step.chunks)})
            for group in self._scheduler.failed(step):
                self._abort(group, Finish.FAILED, "finished", f"the model could not run it: {type(error).__name__}")
            for group in step.touched:
                for sequence in group.live:  # it may have accepted a token that never came here
                    sequence.grammar = self._admission.grammar(group.request, sequence.output)
            return None

    # ---- postprocess ------------------------------------------------------------------------------------------------

    def _postprocess(self, step: Step, picks: Many[Pick]) -> None:
        now = self._clock()
        self._figures.steps += 1
        drawn = iter(picks)
        beams: dict[Group, list[tuple[Sequence, Pick]]] = {}
        for group in step.returned:
            for sequence in group.live:
                self._tables.joined(sequence)
        for chunk in step.chunks:
            sequence, samples = chunk.sequence, chunk.samples
            group = self._groups[sequence.request.id]
            pick = next(drawn) if samples else None
            self._served(group, chunk, pick, now)
            if sequence in step.forked:
                self._tables.joined(sequence)
            if pick is None or not pick.failed:  # else what was computed is worth nothing to anybody
                self._tables.computed(sequence, chunk.count)
            if pick is not None:
                sequence.state = State.DECODE
                sequence.first_token = now if sequence.first_token is None else sequence.first_token
                self._scheduler.acquit(group)
                if group.is_beam:
                    beams.setdefault(group, []).append((sequence, pick))
                else:
                    self._advance(group, sequence, pick)
        for group, candidates in beams.items():
            self._search(group, candidates)

    def _served(self, group: Group, chunk: Chunk, pick: Pick | None, now: float) -> None:
        """On the bill: what was run of a prompt, and the token that was drawn."""
        prefill = 0 if pick is not None and chunk.sequence.state is State.DECODE else chunk.count
        decode = int(pick is not None and not pick.failed)
        group.bill.prefill_tokens += prefill
        group.bill.decode_tokens += decode
        self._ordering.charge(group, prefill, decode)
        self._quotas.charge(group.tenant, prefill + decode, now)
        self._figures.count(group.tenant, prefill, decode, now)

    def _advance(self, group: Group, sequence: Sequence, pick: Pick) -> None:
        if pick.failed:
            self._end(group, sequence, Finish.FAILED, pick.failed)
            return
        ignores = group.request.sampling.ignore_eos and sequence.grammar is None  # a grammar ends where it is complete
        if pick.token in self.runner.shape.eos and not ignores:
            self._end(group, sequence, Finish.STOP)
            return
        sequence.tokens.append(pick.token)
        logprobs: tuple[Logprob, ...] = ()
        if pick.logprob is not None:
            logprobs = (pick.logprob,)
            sequence.logprobs.append(pick.logprob)
            sequence.score += pick.logprob.logprob
        self._events.append(Advanced(sequence, (pick.token,), logprobs))
        if len(sequence.tokens) - len(group.request.prompt) >= group.request.max_tokens:
            self._end(group, sequence, Finish.LENGTH)

    def _search(self, group: Group, picks: list[tuple[Sequence, Pick]]) -> None:
        failed = next((pick.failed for _, pick in picks if pick.failed), "")
        if failed:
            self._abort(group, Finish.FAILED, "finished", failed)
            return
        beam.advance(group, picks, self._tables, self.runner.shape.eos)
        if group.live:
            return
        found = beam.best(group)
        self._events += [Advanced(each, tuple(each.output), tuple(each.logprobs)) for each in found]
        self._say_ended(found)
        self._close(group, "finished")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _end(self, group: Group, sequence: Sequence, finish: Finish, detail: str = "") -> None:
        """One sample has ended, and the group with its last."""
        self._scheduler.preemption.release(group, sequence)
        group.live.remove(sequence)
        _conclude(sequence, finish, detail)
        self._say_ended([sequence])
        if not group.live and not group.unforked:
            self._close(group, "finished")

    def _abort(self, group: Group, finish: Finish, kind: str, detail: str = "") -> None:
        """All of it that has not ended ends now."""
        self._scheduler.remove(group)
        ended = [sequence for sequence in group.sequences[: group.request.n] if sequence.finish is None]
        for sequence in ended:
            _conclude(sequence, finish, detail)
        self._say_ended(ended)
        self._close(group, kind)

    def _close(self, group: Group, kind: str) -> None:
        self._scheduler.remove(group)
        del self._groups[group.request.id]
        self._figures.close(group)
        results = group.hypotheses or group.sequences
        ends = dict.fromkeys(str(sequence.finish) for sequence in results if sequence.finish is not None)
        self._log.served(kind, group, ", ".join(ends) if kind == "finished" else "")

    def _say_ended(self, sequences: Many[Sequence]) -> None:
        for sequence in sequences:
            assert sequence.finish is not None, "it has ended"
            self._events.append(Ended(sequence, sequence.finish))

    def _settle(self, group: Group) -> None:
        """Bring block-seconds up to now, for those that hold device blocks."""
        for sequence in group.live:
            if sequence.state in (State.PREFILL, State.DECODE):
                self._tables.settle(sequence)


def _conclude(sequence: Sequence, finish: Finish, detail: str) -> None:
    sequence.finish, sequence.detail, sequence.state = finish, detail, State.FINISHED
