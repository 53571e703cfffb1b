"""A corridor on a scheduler that a test drives: real stages, real units on SQLite, a bank that keeps its own record.

Every place where a call may be overtaken is a gate: before a unit runs, before a frame leaves, before its answer comes.
The test opens one gate at a time, so an interleaving is a list of numbers and can be played again.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy import create_engine

import audit.schema
from audit.event import Event
from gateway.books import GatewayBooks
from gateway.desk.desk import ApprovalDesk
from gateway.options import ServerOptions
from gateway.pipeline import Pipeline
from gateway.ports import Answer, Done, Intent, Outcome, OutcomeKind, Progress, Submitted, T, Unit
from gateway.recovery import recover
from gateway.stages.capability import Capability
from gateway.stages.confinement import Confinement
from gateway.stages.dataflow import DataFlow
from gateway.stages.definition import DefinitionStage
from gateway.stages.policy import Policy
from gateway.stores import budgets, schema, tasks
from gateway.stores.definitions import Definitions
from gateway.stores.memory import Confines, Memory
from gateway.stores.tasks import Task, TokenRow
from policies.action import Action, Kind, Subject
from policies.bundle import InForce, load
from policies.capability import Refused
from policies.case import Offer
from policies.describe import Survey, described
from policies.grant import Grant
from policies.jsonvalue import JSONObject, canonical
from policies.packs import load_pack
from policies.rules import parse_rule, satisfies
from support.cases import ALICE

IBAN = "DE89370400440532013000"
PAY: JSONObject = {"to": IBAN, "amount_cents": 100, "currency": "EUR"}
RULES = (
    parse_rule(f'bank.pay(to = "{IBAN}", amount_cents <= 500, currency in ["EUR"])'),
    parse_rule("bank.balance"),
)
PACK = load_pack("bank")
_STRING, _NUMBER = {"type": "string"}, {"type": "integer"}
TOOLS = {
    "pay": {"to": _STRING, "amount_cents": _NUMBER, "currency": _STRING, "memo": {"type": "string", "default": ""}},
    "balance": {},
}


def tool(name: str, description: str = "as pinned") -> JSONObject:
    return {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": TOOLS[name]},
    }


@lru_cache
def in_force() -> InForce:
    return InForce(load())


@lru_cache
def _empty() -> bytes:
    """A database with every table and nothing in it."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    engine = create_engine("sqlite://", creator=lambda: db)
    schema.metadata.create_all(engine)
    audit.schema.metadata.create_all(engine)
    return db.serialize()


class Grants:
    """Rights as the oracle reads them: no token library, so that a schedule costs milliseconds."""

    def authorise(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, now: float
    ) -> tuple[int, ...] | Refused:
        covering = tuple(i for i, rule in enumerate(RULES) if satisfies(rule, server, tool, arguments))
        return covering or Refused("no rule")

    def is_exactly(self, subject: Subject, grant: Grant) -> bool:
        return False


@dataclass
class Gates:
    """Whatever waits to go on, by what it waits for."""

    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    _met: int = 0

    async def __call__(self, name: str) -> None:
        self._met += 1
        gate = f"{name}#{self._met}"
        self.waiting[gate] = asyncio.get_running_loop().create_future()
        try:
            await self.waiting[gate]
        finally:
            self.waiting.pop(gate, None)

    def open(self, place: int) -> None:
        gate = list(self.waiting)[place]
        self.passed.append(gate)
        self.waiting[gate].set_result(None)

    async def settled(self) -> None:
        """Until nothing moves but by a gate."""
        for _ in range(12):
            await asyncio.sleep(0)


@dataclass
class World:
    """One gateway's worth of state; `crash` forgets everything that was not durable."""

    gates: Gates = field(default_factory=Gates)
    effects: list[tuple[str, str, JSONObject]] = field(default_factory=list)
    """The bank's own record: (action, tool, arguments) of every frame it was sent."""
    events: list[Event] = field(default_factory=list)
    """What is durable in the log."""
    spend: int = 1000
    revoked_after: int = -1
    redefined_after: int = -1
    """How many intents were durable when the operator's or the server's change was."""
    answer: JSONObject = field(default_factory=lambda: {"content": [], "structuredContent": {"payment": "p1"}})
    """What the bank answers."""

    def __post_init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.db.deserialize(_empty())
        self.now = 1_000.0
        grant = Grant(rules=RULES, calls=10, spend={"EUR": self.spend})
        self.task = Task(id=ALICE.task, principal="user", agent=ALICE.agent, text="t", grant=grant, created=0.0)
        row = TokenRow(
            id=ALICE.root, task=ALICE.task, agent="a", holder="a", revocation="00", expires=None, created=0.0
        )
        tasks.create(self.db, self.task, row)
        budgets.open_budgets(self.db, ALICE.root, {"calls": 10, "spend:EUR": self.spend})
        self.db.execute("INSERT INTO meta VALUES ('policy', ?)", (in_force().bundle.revision,))
        self.boot()

    def boot(self) -> None:
        """What a process builds at its start."""
        from gateway import options

        ledger, road = GatedLedger(self), Bank(self)
        policies = {"bank": options.Definitions.TRUST_ON_FIRST_USE}
        self.definitions = Definitions(ledger, self.clock, policies)
        self.definitions.read(self.db)
        self.memory = Memory(
            reader=self.db,
            key=b"k" * 32,
            definitions=self.definitions,
            packs={"bank": PACK},
            confines={"bank": Confines(demanded=frozenset(), offers=(Offer("bubblewrap", frozenset()),), sealed=False)},
            clock=self.clock,
        )
        servers = {"bank": ServerOptions(name="bank", command=("bank",))}
        self.books = GatewayBooks(ledger=ledger, memory=self.memory, road=road, servers=servers, clock=self.clock)
        self.desk = ApprovalDesk(ledger=ledger, memory=self.memory, clock=self.clock, expire_s=900)
        self.ledger = ledger
        self.pipeline = Pipeline(
            stages=(DefinitionStage(), Capability(Grants()), DataFlow(), Policy(in_force()), Confinement()),
            archive=self.memory,
            books=self.books,
            road=road,
            desk=self.desk,
        )

    def clock(self) -> float:
        return self.now

    async def pinned(self, description: str = "as pinned") -> None:
        """The bank lists its tools."""
        said = {name: described(name, tool(name, description)) for name in TOOLS}
        await self.definitions.observe(Survey(server="bank", offered=said))

    async def call(self, name: str, arguments: JSONObject, action: str) -> Answer:
        return await self.pipeline.mediate(
            Action(id=action, kind=Kind.CALL_TOOL, subject=ALICE, server="bank", name=name, arguments=dict(arguments))
        )

    async def recovered(self) -> int:
        return await recover(self.ledger, self.memory.worst_label, self.clock)

    def intents(self) -> dict[str, Event]:
        return {event.action: event for event in self.events if event.kind == "effect.intent"}


@dataclass
class GatedLedger:
    """The one writer, one unit at a time, each behind a gate."""

    world: World

    def submit(self, unit: Unit[T], *, early: bool = False) -> Submitted[T]:
        durable = asyncio.ensure_future(self.run(unit))
        return Submitted(ran=durable, durable=durable)

    async def run(self, unit: Unit[T], *, reserved: bool = False) -> T:
        await self.world.gates("unit")
        db = self.world.db
        db.execute("BEGIN IMMEDIATE")
        db.execute("SAVEPOINT unit")
        try:
            done: Done[T] = unit(db)
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("RELEASE unit" if done.keep else "ROLLBACK TO unit")
        db.execute("COMMIT")
        self.world.events.extend(done.events)
        if done.after:
            done.after()
        return done.value


@dataclass
class Bank:
    """The road, and at its end a bank that writes down what reaches it."""

    world: World
    _cancelled: set[str] = field(default_factory=set)

    def frame(self, action: Action) -> bytes:
        return canonical([action.name, action.arguments])

    def cancel(self, action_id: str) -> None:
        self._cancelled.add(action_id)

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        await self.world.gates("send")
        if intent.action.id in self._cancelled:
            return Outcome(kind=OutcomeKind.NOT_SENT)
        self.world.effects.append((intent.action.id, intent.action.name, intent.action.arguments))
        await self.world.gates("answer")
        return Outcome(kind=OutcomeKind.OK, result=self.world.answer, size=9)


Actor = Callable[[World], Awaitable[object]]


async def played(world: World, actors: list[Actor], choices: Iterator[int]) -> list[int]:
    """Run the actors, opening the gate that `choices` names at each step; how many there were to choose from."""
    running = [asyncio.ensure_future(actor(world)) for actor in actors]
    options = []
    await world.gates.settled()
    while world.gates.waiting:
        count = len(world.gates.waiting)
        options.append(count)
        world.gates.open(next(choices, 0) % count)
        await world.gates.settled()
    await asyncio.gather(*running, return_exceptions=True)
    for actor in running:
        if not actor.cancelled() and isinstance(actor.exception(), AssertionError):
            raise actor.exception() or AssertionError
    return options


async def unattended(world: World, work: Awaitable[T]) -> T:
    """Let one piece of work through every gate it meets."""
    task = asyncio.ensure_future(work)
    await world.gates.settled()
    while not task.done():
        world.gates.open(0)
        await world.gates.settled()
    return task.result()
