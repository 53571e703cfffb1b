"""The law that caches are invisible: a twin without memory decides everything as the living gateway does.

The living one keeps what it learned: verified tokens, compiled schemas, policy decisions, tasks, marks, proofs and
receipts. The twin is made afresh for each decision, with everything read from the store. Between decisions anything may
happen: grants, narrowed tokens, calls and their results, answers of a person, revocations, definitions that change and
are accepted or taken back, and time.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from biscuit_auth import Algorithm, Biscuit, BlockBuilder, PublicKey
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.mortal import NO_WALLS
from support.scene import OPERATOR, PACK, PAYEE, SOAK, STRANGER

from gateway.bootstrap import Running, running
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.options import Options, ServerOptions
from gateway.pipeline import Pipeline
from gateway.ports import Intent, Outcome, OutcomeKind, Progress
from gateway.settings import SHIPPED
from gateway.stages.capability import Capability
from gateway.stages.confinement import Confinement
from gateway.stages.dataflow import DataFlow
from gateway.stages.definition import DefinitionStage
from gateway.stages.policy import Policy
from gateway.stores import tickets
from gateway.stores.definitions import Definitions
from gateway.stores.memory import Memory
from gateway.stores.tickets import Scope, TicketState
from gateway.walls import Walls
from policies.action import Action, Kind, Subject
from policies.bundle import InForce
from policies.bundle import load as load_bundle
from policies.capability import Authority, Refused
from policies.case import Case
from policies.describe import survey
from policies.jsonvalue import JSONObject
from policies.label import Label
from policies.pack import Form
from policies.packs import load_pack

TEXT = {"type": "string"}
TOOLS: dict[str, JSONObject] = {
    "pay": {"to": TEXT, "amount_cents": {"type": "integer"}, "currency": {**TEXT, "default": "EUR"}, "memo": TEXT},
    "note": {"to": TEXT, "text": TEXT},
    "read": {"what": TEXT},
}
ID = "id-1"
PHASES = (Phase.explicit, Phase.generate)
"""One gateway lives through all stories, so that a story told again is not the same: there is nothing to shrink."""


# ---- the living gateway -----------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Moves a little whenever it is looked at, so that no two things happen at once."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Answers:
    """A road whose servers answer what they are told to."""

    next: Outcome = field(default_factory=lambda: Outcome(kind=OutcomeKind.OK, result={"content": []}))

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        return self.next

    def cancel(self, action_id: str) -> None:
        pass

    def frame(self, action: Action) -> bytes:
        return b"{}"


@dataclass
class World:
    """The living gateway, what was granted, and the means to make its twin."""

    gateway: Running
    clock: Clock
    road: Answers
    pipeline: Pipeline
    pack: str
    key: bytes
    instance: str
    subjects: list[Subject] = field(default_factory=list)
    lastly: Action | None = None

    def act(self, who: int, tool: str, arguments: JSONObject) -> Action:
        subject = self.subjects[who % len(self.subjects)]
        return Action(
            id=new_id("act"), kind=Kind.CALL_TOOL, subject=subject, server="till", name=tool, arguments=arguments
        )

    async def twin(self, action: Action, now: float) -> Case:
        """What a gateway decides that remembers nothing."""
        living, options = self.gateway, self.gateway.options
        with closing(living.database.reader()) as reader:
            definitions = Definitions(living.ledger, lambda: now, {})
            definitions.read(reader)
            memory = Memory(
                reader=reader,
                key=living.memory.key,
                definitions=definitions,
                packs={"till": load_pack(self.pack)},
                confines=living.memory.confines,
                clock=lambda: now,
            )
            stages = (
                DefinitionStage(),
                Capability(Authority(self.key, self.instance)),
                DataFlow(),
                Policy(InForce(load_bundle(options.bundles, without=options.unsafe_without))),
                Confinement(),
            )
            return await replace(self.pipeline, stages=stages, archive=memory).decide(action)

    async def compare(self, action: Action) -> None:
        now = self.clock.now
        self.gateway.memory.clock = lambda: now
        living, twin = await self.pipeline.decide(action), await self.twin(action, now)
        self.gateway.memory.clock = self.clock
        assert living.verdict == twin.verdict
        assert living.arguments == twin.arguments
        assert (living.rules, living.spends, living.policy) == (twin.rules, twin.spends, twin.policy)
        assert (living.approval, living.tool) == (twin.approval, twin.tool)
        assert living.seen.mark == twin.seen.mark
        assert (living.seen.endorsed, living.seen.flows) == (twin.seen.endorsed, twin.seen.flows)
        assert (living.seen.refused, living.seen.revoked) == (twin.seen.refused, twin.seen.revoked)
        assert set(living.seen.approvals) == set(twin.seen.approvals)
        assert proven(living) == proven(twin)


def proven(case: Case) -> list[Label | None]:
    """What the task may prove, of everything that is drawn here."""
    asked = itertools.product((Form.IBAN, Form.ID), (PAYEE, STRANGER, "me", ID, "C01X00T47"))
    found = (case.seen.proofs.find(form, value) for form, value in asked)
    return [label and label.bare() for label in found]


@asynccontextmanager
async def world(place: Path) -> AsyncIterator[World]:
    pack = place / "till.toml"
    pack.write_text(PACK)
    server = ServerOptions(name="till", command=("/no/such/till",), pack=str(pack))
    walls = Walls(tried=(NO_WALLS,), profiles=SHIPPED)
    options = Options(state=place / "state", port=0, sandboxes=SHIPPED, servers={"till": server})
    async with running(options, walls) as gateway:
        clock, road = Clock(), Answers()
        gateway.memory.clock = gateway.desk.clock = clock
        books = replace(gateway.books, road=road, clock=clock)
        pipeline = replace(gateway.pipeline, road=road, books=books)
        keys = place / "state" / "keys"
        key, instance = (keys / "tokens.key").read_bytes(), (keys / "instance").read_text()
        yield World(gateway, clock, road, pipeline, str(pack), key, instance)


# ---- what may happen ---------------------------------------------------------------------------------------------

RULES = (
    f'till.pay(to = "{PAYEE}", currency = "EUR")',
    f'till.pay(to in ["{PAYEE}", "{STRANGER}"], amount_cents <= 50)',
    "till.pay",
    'till.note(to = "me")',
    "till.note",
    "till.*",
    "till.read",
)
CHECKS = ('check if call($s, "note")', 'check if call($s, $t), $t != "pay"', "check if true")
Step = Callable[[World], Any]


def grant(rules: list[str], calls: int | None, expires_s: float | None) -> Step:
    async def step(world: World) -> None:
        allow = list(dict.fromkeys(rules))
        granted = await world.gateway.control.grant(
            text="Try.", allow=allow, calls=calls, spend={"EUR": 90}, expires_s=expires_s, by=OPERATOR
        )
        _admit(world, granted.token)

    return step


def attenuate(who: int, check: str) -> Step:
    async def step(world: World) -> None:
        parent = world.subjects[who % len(world.subjects)]
        hexed = world.gateway.control.authority.public_key.removeprefix("ed25519/")
        root = PublicKey.from_bytes(bytes.fromhex(hexed), Algorithm.Ed25519)  # type: ignore[call-arg,attr-defined]
        child = Biscuit.from_base64(parent.credential, root).append(BlockBuilder(check))
        _admit(world, child.to_base64())

    return step


def _admit(world: World, token: str) -> None:
    subject = world.gateway.control.authority.read(token, now=0.0)
    assert not isinstance(subject, Refused)
    world.subjects.append(subject)


def call(who: int, what: tuple[str, JSONObject], outcome: Outcome) -> Step:
    async def step(world: World) -> None:
        world.road.next = outcome
        world.lastly = world.act(who, *what)
        await world.pipeline.mediate(world.lastly)

    return step


def answered(who: int, what: tuple[str, JSONObject], outcome: Outcome, approve: bool, scope: Scope) -> Step:
    """A call, a person's answer to it, and the same call again."""

    async def step(world: World) -> None:
        await call(who, what, outcome)(world)
        assert world.lastly is not None
        before = (await world.pipeline.mediate(replace(world.lastly, id=new_id("act")))).ticket
        if (ticket := tickets.load(world.gateway.memory.reader, before)) is not None:
            digest, desk = ticket.call_digest, world.gateway.desk
            await desk.decide(ticket.id, approve=approve, by=OPERATOR, call_digest=digest, scope=scope)
            await again()(world)

    return step


def again() -> Step:
    async def step(world: World) -> None:
        if world.lastly is not None:
            await world.pipeline.mediate(replace(world.lastly, id=new_id("act")))

    return step


def answer(which: int, approve: bool, scope: Scope) -> Step:
    async def step(world: World) -> None:
        waiting = tickets.listed(world.gateway.memory.reader, state=TicketState.PENDING)
        if waiting:
            ticket = waiting[which % len(waiting)]
            digest, desk = ticket.call_digest, world.gateway.desk
            with suppress(OperatorError):  # expired, or its token was revoked
                await desk.decide(ticket.id, approve=approve, by=OPERATOR, call_digest=digest, scope=scope)

    return step


def revoke(who: int, whole: bool) -> Step:
    async def step(world: World) -> None:
        subject = world.subjects[who % len(world.subjects)]
        await world.gateway.control.revoke(subject.task if whole else subject.credential, by=OPERATOR)

    return step


def describe(tool: str, description: str) -> Step:
    async def step(world: World) -> None:
        await world.gateway.servers.definitions.observe(_survey({tool: description}))

    return step


def accept() -> Step:
    async def step(world: World) -> None:
        with suppress(OperatorError):  # nothing waits
            await world.gateway.servers.definitions.accept("till", None, OPERATOR)

    return step


def wait(seconds: float) -> Step:
    async def step(world: World) -> None:
        world.clock.now += seconds
        await world.gateway.desk.expire()

    return step


def _survey(said: dict[str, str]) -> Any:
    listed = []
    for name, properties in TOOLS.items():
        required = [key for key, rule in properties.items() if "default" not in rule]
        schema = {"type": "object", "properties": properties, "required": required}
        listed.append({"name": name, "description": said.get(name, ""), "inputSchema": schema})
    return survey("till", listed, pinned=list(TOOLS))


# ---- drawn -------------------------------------------------------------------------------------------------------

few = st.integers(0, 3)
targets = st.sampled_from([PAYEE, STRANGER, "me", ID])
words = st.sampled_from(["", f"pay {STRANGER}", "\u00fcber", ID])
asked = st.one_of(
    st.tuples(
        st.just("pay"),
        st.fixed_dictionaries(
            {"to": targets, "amount_cents": st.integers(0, 60), "memo": words}, optional={"currency": st.just("EUR")}
        ),
    ),
    st.tuples(st.just("note"), st.fixed_dictionaries({"to": targets, "text": words})),
    st.tuples(st.just("read"), st.fixed_dictionaries({"what": words})),
    st.tuples(st.sampled_from(["pay", "none"]), st.just({"odd": 1})),
)
said = st.fixed_dictionaries(
    {},
    optional={
        "payee": targets,
        "id": targets,
        "passport": st.just("C01X00T47"),
        "text": words | st.just("ü" * 140_000),
    },
)
outcomes = st.one_of(
    said.map(lambda body: Outcome(kind=OutcomeKind.OK, result={"content": [], "structuredContent": body})),
    said.map(lambda body: Outcome(kind=OutcomeKind.OK, result={"structuredContent": body, "isError": True})),
    st.sampled_from(["unknown", "not_sent", "error"]).map(lambda kind: Outcome(kind=OutcomeKind(kind))),
)
rules = st.lists(st.sampled_from(RULES), min_size=1, max_size=4)
broad = st.builds(grant, rules.map(lambda some: [*some, "till.*"]), st.none() | st.integers(3, 9), st.just(50_000.0))
often = [
    st.builds(call, few, asked, outcomes),
    st.builds(call, few, st.just(("read", {"what": "it"})), outcomes),
    st.builds(answered, few, asked, outcomes, st.just(True), st.sampled_from(Scope)),
    st.builds(answered, few, asked, outcomes, st.booleans(), st.sampled_from(Scope)),
    st.builds(again),
]
seldom = [
    st.builds(grant, rules, st.none() | st.integers(1, 4), st.none() | st.sampled_from([50.0, 5_000.0])),
    st.builds(attenuate, few, st.sampled_from(CHECKS)),
    st.builds(answer, few, st.booleans(), st.sampled_from(Scope)),
    st.builds(revoke, few, st.booleans()),
    st.builds(describe, st.sampled_from(sorted(TOOLS)), st.sampled_from(["", "Anew."])),
    st.builds(accept),
    st.builds(wait, st.sampled_from([1.0, 100.0, 1_000.0])),
]
steps = st.one_of(*often, *often, st.one_of(seldom))


@pytest.mark.promise("caches-invisible")
@pytest.mark.timeout(100 * SOAK)
def test_a_twin_without_memory_decides_as_the_living_gateway_does(tmp_path: Path) -> None:
    decided = itertools.count()

    async def play(here: World, first: Step, story: list[tuple[Step, int, tuple[str, JSONObject]]]) -> None:
        here.subjects.clear()
        here.lastly = None
        await here.gateway.servers.definitions.observe(_survey({}))
        await first(here)
        for step, who, probe in story:
            await step(here)
            await here.compare(here.act(who, *probe))
            if here.lastly is not None:
                await here.compare(replace(here.lastly, id=new_id("act")))
            next(decided)

    with asyncio.Runner() as runner:
        scene = world(tmp_path)
        here = runner.run(scene.__aenter__())

        @given(broad, st.lists(st.tuples(steps, few, asked), min_size=6, max_size=12))
        @settings(max_examples=40 * SOAK, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
        def holds(first: Step, story: list[tuple[Step, int, tuple[str, JSONObject]]]) -> None:
            runner.run(play(here, first, story))

        try:
            holds()
        finally:
            runner.run(scene.__aexit__(None, None, None))
    assert next(decided) > 100


async def test_a_result_too_long_to_be_kept_proves_nothing_before_a_restart_either(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.gateway.servers.definitions.observe(_survey({}))
        await grant(["till.read", "till.pay"], None, None)(here)
        said: JSONObject = {"payee": STRANGER, "text": "ü" * 140_000}
        await call(0, ("read", {"what": "x"}), Outcome(kind=OutcomeKind.OK, result={"structuredContent": said}))(here)
        await here.compare(here.act(0, "pay", {"to": STRANGER, "amount_cents": 1, "memo": ""}))


async def test_a_result_that_leaves_the_mark_as_it_was_proves_what_it_says_all_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.gateway.servers.definitions.observe(_survey({}))
        await grant(["till.read", "till.pay"], None, None)(here)
        for payee in (PAYEE, STRANGER):
            said: JSONObject = {"payee": payee, "text": "untrusted"}
            outcome = Outcome(kind=OutcomeKind.OK, result={"content": [], "structuredContent": said})
            await call(0, ("read", {"what": "x"}), outcome)(here)
        payment = here.act(0, "pay", {"to": STRANGER, "amount_cents": 1, "memo": ""})
        await here.compare(payment)
        assert proven(await here.pipeline.decide(payment))[1] is not None
