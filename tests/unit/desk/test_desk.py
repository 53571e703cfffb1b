"""Tickets from the question to the answer, on the real store and the real stages."""

from typing import Any

import pytest
from support.world import IBAN, PAY, World, unattended

from gateway.errors import OperatorError
from gateway.ports import Answer
from gateway.stores import tasks, tickets
from gateway.stores.tickets import Scope, Ticket, TicketState
from policies.case import Case
from policies.label import Integrity, Label
from policies.verdict import Code, Reason


async def world() -> World:
    made = World()
    await unattended(made, made.pinned())
    return made


async def asked(world: World, action: str = "act_1", **changes: Any) -> Answer:
    return await unattended(world, world.call("pay", {**PAY, "memo": "", **changes}, action))


async def decided(world: World, answer: Answer, *, approve: bool, **more: Any) -> Ticket:
    seen = ticket(world, answer)
    given = {"by": "test", "call_digest": seen.call_digest, "approve": approve, **more}
    return await unattended(world, world.desk.decide(answer.ticket, **given))


def ticket(world: World, answer: Answer) -> Ticket:
    found = tickets.load(world.db, answer.ticket)
    assert found is not None
    return found


@pytest.mark.promise("one-question-per-call")
async def test_equal_calls_ask_one_question() -> None:
    bank = await world()

    first, second, other = await asked(bank), await asked(bank, "act_2"), await asked(bank, "act_3", memo="another")

    assert (first.code, first.ticket) == (Code.PENDING, second.ticket)
    assert other.ticket != first.ticket
    assert len([event for event in bank.events if event.kind == "approval.requested"]) == 2
    assert bank.desk.waiting() == sorted([first.ticket, other.ticket])


@pytest.mark.promise("worse-is-asked-anew")
async def test_a_call_that_carries_more_than_was_shown_is_asked_anew_and_the_old_yes_is_gone() -> None:
    bank = await world()
    first = await asked(bank)
    await decided(bank, first, approve=True)

    bank.memory.raise_mark("agt_a", Label(integrity=Integrity.UNTRUSTED, classes=frozenset({"bank", "mail"})))
    second = await asked(bank, "act_2")

    assert (second.code, bank.effects) == (Code.PENDING, [])
    assert second.ticket != first.ticket
    assert ticket(bank, first).state is TicketState.EXPIRED


async def test_an_equal_call_that_a_changed_pack_sees_another_effect_in_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = await world()
    first = await asked(bank)

    monkeypatch.setattr(Case, "authority", "as the new pack sees it")
    second, third = await asked(bank, "act_2"), await asked(bank, "act_3")

    assert (second.code, second.ticket) == (Code.PENDING, third.ticket)
    assert second.ticket != first.ticket
    assert ticket(bank, first).state is TicketState.EXPIRED
    assert bank.desk.waiting() == [second.ticket]


async def test_a_yes_to_what_a_changed_pack_sees_another_effect_in_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = await world()
    first = await asked(bank)
    await decided(bank, first, approve=True)

    monkeypatch.setattr(Case, "authority", "as the new pack sees it")
    second = await asked(bank, "act_2")

    assert (second.code, bank.effects) == (Code.PENDING, [])
    assert ticket(bank, first).state is TicketState.EXPIRED


@pytest.mark.promise("denied-stays-denied")
async def test_a_no_stays_for_every_call_with_the_same_effect_and_closes_what_else_was_asked() -> None:
    bank = await world()
    first, twin = await asked(bank), await asked(bank, "act_2", memo="one byte more")
    dearer = await asked(bank, "act_3", amount_cents=200)  # to the same account: an amount is no authority argument
    await decided(bank, twin, approve=True)

    await decided(bank, first, approve=False, comment="no")

    assert {ticket(bank, one).state for one in (first, twin, dearer)} == {TicketState.DENIED}
    assert ticket(bank, twin).comment == f"denied with {first.ticket}, which has the same effect"
    assert (await asked(bank, "act_4", memo="please")).code is Code.DENIED_BY_PERSON
    assert bank.effects == []


async def test_a_no_given_while_an_equal_question_was_on_its_way_is_met_by_it() -> None:
    bank = await world()
    first = await asked(bank)
    case = await bank.pipeline.decide(_action(bank, "act_2", memo="late"))
    await decided(bank, first, approve=False)

    late = await unattended(bank, bank.desk.open(case))

    assert isinstance(late, Reason)
    assert late.code is Code.DENIED_BY_PERSON


async def test_a_question_that_was_just_answered_yes_is_not_asked_again() -> None:
    bank = await world()
    first = await asked(bank)
    case = await bank.pipeline.decide(_action(bank, "act_2"))
    await decided(bank, first, approve=True)

    again = await unattended(bank, bank.desk.open(case))

    assert again == Answer(action="act_2", code=Code.PENDING, ticket=first.ticket)
    assert await bank.desk.decided(first.ticket, 0.0)


@pytest.mark.promise("answer-fits-what-was-shown")
async def test_an_answer_that_does_not_fit_what_was_shown_is_refused() -> None:
    bank = await world()
    first = await asked(bank)

    for wrong in ({"version": 2}, {"call_digest": "f" * 64}):
        with pytest.raises(OperatorError) as refused:
            await decided(bank, first, approve=True, **wrong)
        assert refused.value.status == 409
    with pytest.raises(OperatorError) as missing:
        await unattended(bank, bank.desk.decide("apr_0", approve=True, by="test", call_digest=""))
    assert missing.value.status == 404

    await decided(bank, first, approve=True, version=1)
    with pytest.raises(OperatorError, match="approved by now"):
        await decided(bank, first, approve=False)


@pytest.mark.promise("silence-is-no")
async def test_what_nobody_answers_in_time_is_no() -> None:
    bank = await world()
    first = await asked(bank)
    bank.now += 900

    with pytest.raises(OperatorError, match="expired"):
        await decided(bank, first, approve=True)
    await unattended(bank, bank.desk.expire())

    assert ticket(bank, first).state is TicketState.EXPIRED
    assert (bank.desk.waiting(), bank.effects) == ([], [])
    assert (await asked(bank, "act_2")).ticket != first.ticket


@pytest.mark.promise("revoked-cannot-be-approved")
async def test_what_a_revoked_task_asked_can_no_longer_be_approved_and_is_closed() -> None:
    bank = await world()
    first = await asked(bank)
    tasks.revoke_task(bank.db, bank.task.id)
    bank.memory.added(tasks.load(bank.db, bank.task.id) or bank.task)

    with pytest.raises(OperatorError, match="revoked"):
        await decided(bank, first, approve=True)
    await unattended(bank, bank.desk.expire())

    assert ticket(bank, first).state is TicketState.EXPIRED
    assert await bank.desk.decided(first.ticket, 0.0)


async def test_what_a_revoked_token_asked_is_closed() -> None:
    bank = await world()
    first = await asked(bank)
    bank.memory.revoked.add("00")

    await unattended(bank, bank.desk.expire())

    assert ticket(bank, first).comment == "whoever asked was revoked"


async def test_a_restarted_gateway_still_knows_what_waits() -> None:
    bank = await world()
    first = await asked(bank)

    bank.boot()

    assert bank.desk.waiting() == [first.ticket]
    assert (await decided(bank, first, approve=True)).state is TicketState.APPROVED


async def test_a_yes_for_the_task_of_a_call_that_is_proven_endorses_nothing_and_is_asked_again() -> None:
    bank = await world()
    first = await asked(bank)

    await decided(bank, first, approve=True, scope=Scope.TASK)

    assert tickets.endorsements(bank.db, bank.task.id) == []
    assert (await asked(bank, "act_2")).result is not None
    assert (await asked(bank, "act_3")).code is Code.PENDING
    assert [arguments["to"] for _, _, arguments in bank.effects] == [IBAN]


def _action(bank: World, name: str, **changes: Any) -> Any:
    from support.cases import ALICE

    from policies.action import Action, Kind

    arguments = {**PAY, "memo": "", **changes}
    return Action(id=name, kind=Kind.CALL_TOOL, subject=ALICE, server="bank", name="pay", arguments=arguments)
