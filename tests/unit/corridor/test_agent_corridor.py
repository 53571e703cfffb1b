"""What edges may ask: holding for a person, and numbers that never say more than the mark allows."""

from dataclasses import dataclass, field

import pytest
from support.cases import ALICE
from support.world import IBAN, PAY, Grants, World, unattended

from gateway.corridor import AgentCorridor
from gateway.desk.desk import MAX_PENDING
from gateway.ports import Answer, Progress
from policies.action import Action
from policies.case import Case
from policies.jsonvalue import canonical
from policies.label import Integrity
from policies.verdict import Code

PENDING = Answer(action="act_1", code=Code.PENDING, ticket="apr_1")
PAID = Answer(action="act_1", result={"content": []})


@dataclass
class Scripted:
    """A pipeline and a desk that play their parts from a list."""

    answers: list[Answer] = field(default_factory=list)
    decided_: list[bool] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    mediated: list[Action] = field(default_factory=list)

    async def mediate(self, action: Action, progress: Progress | None = None) -> Answer:
        self.mediated.append(action)
        for number in self.numbers:
            if progress:
                progress(number, None)
        return self.answers.pop(0)

    async def open(self, case: Case) -> Answer:
        raise NotImplementedError

    async def decided(self, ticket: str, wait_s: float) -> bool:
        return self.decided_.pop(0)


def corridor(script: Scripted, world: World, *, hold_s: float = 45.0) -> AgentCorridor:
    return AgentCorridor(
        authority=Grants(),  # type: ignore[arg-type]
        pipeline=script,  # type: ignore[arg-type]
        desk=script,
        ledger=world.ledger,  # type: ignore[arg-type]
        memory=world.memory,
        definitions=world.definitions,
        clock=world.clock,
        hold_s=hold_s,
    )


async def test_a_held_call_goes_on_as_the_same_action_when_a_person_has_answered() -> None:
    script = Scripted(answers=[PENDING, PAID], decided_=[False, True])
    answer = await corridor(script, World()).call(ALICE, "bank", "pay", {"to": IBAN})
    assert answer == PAID
    assert len({action.id for action in script.mediated}) == 1


@pytest.mark.promise("held-call-ends-pending")
async def test_a_call_that_nobody_answers_in_time_is_pending_under_its_ticket() -> None:
    script = Scripted(answers=[PENDING])
    assert await corridor(script, World(), hold_s=0.0).call(ALICE, "bank", "pay", {"to": IBAN}) == PENDING


async def test_waiting_shows_signs_of_life_that_say_nothing_of_any_tool() -> None:
    script, shown, world = Scripted(answers=[PENDING, PAID], decided_=[False, False, True]), [], World()
    await corridor(script, world).call(ALICE, "bank", "pay", {}, lambda done, total: shown.append((done, total)))
    assert len(shown) == 2
    assert shown[0] < shown[1] < (0.001, None)
    assert world.memory.mark(ALICE.holder).integrity is Integrity.GRANTED


@pytest.mark.promise("progress-raises-the-mark")
async def test_the_mark_has_risen_before_a_tools_first_number_leaves() -> None:
    script, world, marks = Scripted(answers=[PAID], numbers=[0.5]), World(), []
    await corridor(script, world).call(
        ALICE, "bank", "balance", {}, lambda _done, _total: marks.append(world.memory.mark(ALICE.holder))
    )
    assert [mark.integrity for mark in marks] == [Integrity.UNTRUSTED]
    assert "bank" in marks[0].classes


async def test_numbers_that_do_not_rise_do_not_leave() -> None:
    script, shown = Scripted(answers=[PAID], numbers=[1.0, 1.0, 0.5, 2.0]), []
    await corridor(script, World()).call(ALICE, "bank", "balance", {}, lambda done, _: shown.append(done))
    assert shown == [1.0, 2.0]


@pytest.mark.promise("progress-mark-is-kept")
async def test_a_mark_that_rose_by_progress_is_on_disk_with_the_outcome() -> None:
    world = World()
    await unattended(world, world.pinned())
    world.memory.raise_mark(ALICE.holder, world.memory.worst_label("other", "tool"))
    await unattended(world, world.call("balance", {}, "act_1"))
    world.boot()
    assert "other" in world.memory.mark(ALICE.holder).classes


async def test_only_tools_that_a_rule_names_are_listed_and_the_listing_is_recorded() -> None:
    world = World()
    await unattended(world, world.pinned())
    line = corridor(Scripted(), world)
    listed = await unattended(world, line.tools(ALICE, None))
    assert [tool["name"] for tool in listed] == ["bank__balance", "bank__pay"]
    assert [tool["name"] for tool in await unattended(world, line.tools(ALICE, "bank"))] == ["balance", "pay"]
    assert await unattended(world, line.tools(ALICE, "mail")) == []
    assert [event.kind for event in world.events].count("listed") == 3


@pytest.mark.promise("overload-is-recorded")
async def test_a_question_too_many_is_refused_and_recorded() -> None:
    world = World(spend=100_000)
    await unattended(world, world.pinned())
    answers = [
        await unattended(world, world.call("pay", {**PAY, "amount_cents": cents}, f"act_{cents}"))
        for cents in range(1, MAX_PENDING + 2)
    ]
    assert [answer.code for answer in answers] == [Code.PENDING] * MAX_PENDING + [Code.OVERLOADED]
    assert [event.action for event in world.events if event.kind == "decision"] == [f"act_{MAX_PENDING + 1}"]


@pytest.mark.promise("refusals-are-bounded")
async def test_a_refused_call_leaves_no_more_than_an_excerpt_of_its_arguments() -> None:
    world = World()
    await unattended(world, world.pinned())
    await unattended(world, world.call("pay", {**PAY, "to": "x" * 1_000_000}, "act_1"))
    (refused,) = (event for event in world.events if event.kind == "decision")
    assert len(canonical(refused.payload)) < 8_000


async def test_an_equal_listing_is_recorded_once() -> None:
    world = World()
    await unattended(world, world.pinned())
    line = corridor(Scripted(), world)
    for _ in range(3):
        await unattended(world, line.tools(ALICE, None))
    assert [event.kind for event in world.events].count("listed") == 1


async def test_a_gateway_that_closes_lets_go_of_what_it_holds() -> None:
    line = corridor(Scripted(answers=[PENDING], decided_=[]), World())
    line.is_closing = True
    assert await line.call(ALICE, "bank", "pay", {"to": IBAN}) == PENDING
