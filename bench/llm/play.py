"""Play a trace on the engine, on the virtual clock, and write down what happened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from bench.llm.cost import CostModel
from bench.llm.traces import Job, Kind
from bench.llm.virtual import VirtualClock, VirtualRunner
from llmcore.engine import Engine, EngineConfig
from llmcore.events import Advanced, Ended
from llmcore.messages import Decision
from llmcore.ordering import Ordering
from llmcore.ordering.vtc import DECODE_WEIGHT, PREFILL_WEIGHT
from llmcore.plan import Plan
from llmcore.quotas import Quotas
from llmcore.request import Finish, Refused, Request, Sampling
from llmcore.sequence import State


@dataclass(slots=True, kw_only=True)
class Fate:
    """What became of one request."""

    kind: Kind
    request: Request
    arrived_s: float
    first_token_s: float | None = None
    ended_s: float | None = None
    finish: Finish | None = None
    output: list[int] = field(default_factory=list)
    refused: Refused | None = None

    @property
    def ttft_s(self) -> float:
        assert self.first_token_s is not None, "it was served"
        return self.first_token_s - self.arrived_s

    @property
    def took_s(self) -> float:
        assert self.ended_s is not None, "it has ended"
        return self.ended_s - self.arrived_s


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that fairness is measured by: service given in one step, or a tenant's queue that began or ended."""

    time_s: float
    served: Mapping[str, float] = field(default_factory=dict)
    """By tenant, in VTC's weighted tokens, all of one step."""
    began: str = ""
    """The tenant that from now on has something waiting."""
    ended: str = ""
    """The tenant that no longer has."""


@dataclass(slots=True, kw_only=True)
class Played:
    fates: dict[str, Fate] = field(default_factory=dict)
    """By request, in the order in which they were asked for."""
    moments: list[Moment] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    prefill_tokens: dict[str, int] = field(default_factory=dict)
    """That were run for each tenant: what the runner saw, not what the scheduler says."""
    decode_tokens: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    busy_s: float = 0.0
    """All steps together; between them there was nothing to do."""
    makespan_s: float = 0.0

    @property
    def preemptions(self) -> int:
        return sum(decision.kind == "preempted" for decision in self.decisions)


def play(
    jobs: list[Job], cost: CostModel, config: EngineConfig, ordering: Ordering, *, quotas: Quotas | None = None
) -> Played:
    """All of it, to the end. Output is always `max_tokens` long."""
    return _Player(cost, config, ordering, quotas).play(jobs)


class _Player:
    def __init__(self, cost: CostModel, config: EngineConfig, ordering: Ordering, quotas: Quotas | None) -> None:
        self._clock = VirtualClock()
        self._played = Played()
        runner = VirtualRunner(
            cost,
            self._clock,
            num_blocks=config.num_blocks,
            host_blocks=config.host_blocks,
            block_size=config.block_size,
            watch=self._watch,
        )
        self._engine = Engine(runner, config=config, ordering=ordering, clock=self._clock, quotas=quotas)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._jobs: dict[str, tuple[Job, int]] = {}
        """By request: its job, and which turn of it."""
        self._waiting: dict[str, set[str]] = {}
        """By tenant: its requests in the queue, as the decisions tell."""

    def play(self, jobs: list[Job]) -> Played:
        for job in jobs:
            for turn in range(1 if job.is_loop else len(job.turns)):
                self._later(job.arrives_s, job, turn, ())
        while self._due or self._engine.has_work:
            while self._due and self._due[0][0] <= self._clock.now:
                heappop(self._due)[2]()
            if self._engine.has_work:
                self._step()
            elif self._due:
                self._clock.now = self._due[0][0]
        self._played.makespan_s = self._clock.now
        return self._played

    def _later(self, time_s: float, job: Job, turn: int, said: tuple[int, ...]) -> None:
        heappush(self._due, (time_s, next(self._order), lambda: self._submit(job, turn, said, time_s)))

    def _submit(self, job: Job, turn: int, said: tuple[int, ...], arrived_s: float) -> None:
        request = Request(
            id=f"{job.id}-{turn}",
            tenant=job.tenant,
            domain=job.tenant,
            prompt=said + job.turns[turn].tokens,
            max_tokens=job.turns[turn].max_tokens,
            sampling=Sampling(temperature=0.0, ignore_eos=True),
            priority=job.priority,
        )
        fate = Fate(kind=job.kind, request=request, arrived_s=arrived_s)
        self._played.fates[request.id] = fate
        self._jobs[request.id] = job, turn
        fate.refused = self._engine.submit(request)
        self._hear()

    def _step(self) -> None:
        began_s = self._clock.now
        events = self._engine.step()
        if not events and self._clock.now == began_s:
            raise RuntimeError(f"at {began_s} s the engine has work and does nothing")
        self._played.steps += 1
        self._played.busy_s += self._clock.now - began_s
        self._hear()
        for event in events:
            fate = self._played.fates[event.sequence.request.id]
            match event:
                case Advanced(tokens=tokens):
                    fate.output += tokens
                    fate.first_token_s = self._clock.now if fate.first_token_s is None else fate.first_token_s
                case Ended(finish=finish):
                    fate.finish, fate.ended_s = finish, self._clock.now
                    self._go_on(fate)

    def _go_on(self, fate: Fate) -> None:
        """The next turn of a loop."""
        job, turn = self._jobs.pop(fate.request.id)
        if job.is_loop and turn + 1 < len(job.turns):
            said = fate.request.prompt + tuple(fate.output)
            self._later(self._clock.now + job.turns[turn + 1].think_s, job, turn + 1, said)

    # ---- what is written down ---------------------------------------------------------------------------------------

    def _watch(self, plan: Plan) -> None:
        """The runner's side of a step. What was decided before it is heard first: it was so while the step ran."""
        self._hear()
        served: dict[str, float] = {}
        for chunk in plan.chunks:
            tenant = chunk.sequence.request.tenant
            prefill = 0 if chunk.sequence.state is State.DECODE else chunk.count
            decode = int(chunk.samples)
            _add(self._played.prefill_tokens, tenant, prefill)
            _add(self._played.decode_tokens, tenant, decode)
            served[tenant] = served.get(tenant, 0.0) + PREFILL_WEIGHT * prefill + DECODE_WEIGHT * decode
        self._played.moments.append(Moment(self._clock.now, served=served))

    def _hear(self) -> None:
        for decision in self._engine.decisions():
            self._played.decisions.append(decision)
            waiting = self._waiting.setdefault(decision.tenant, set())
            had = bool(waiting)
            if decision.kind in ("admitted", "preempted"):
                waiting.add(decision.request)
            elif decision.kind in ("started", "resumed", "cancelled", "finished"):
                waiting.discard(decision.request)
            if had != bool(waiting):
                began, ended = ("", decision.tenant) if had else (decision.tenant, "")
                self._played.moments.append(Moment(decision.time, began=began, ended=ended))


def _add(counts: dict[str, int], tenant: str, tokens: int) -> None:
    counts[tenant] = counts.get(tenant, 0) + tokens
