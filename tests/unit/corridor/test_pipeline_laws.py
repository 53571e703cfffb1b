"""The reference monitor by itself: folds, order, and what happens when parts break."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from support.cases import ForgetfulStage, SaysStage, action, snapshot, stages, verdicts

from gateway.errors import Unrecordable
from gateway.pipeline import MAX_TRIES, Pipeline
from gateway.ports import Answer, Intent, Outcome, OutcomeKind, Progress, Stage, Stale
from policies.action import Action
from policies.case import Approval, Argument, Case, Snapshot
from policies.label import CLEAN, Integrity, Label
from policies.pack import ArgumentSpec, Role
from policies.verdict import Code, Reason, Severity, Verdict, ask, deny


@dataclass
class FakeWorld:
    """Archive, books, road and desk in one, writing down the order of what happened."""

    stale: int = 0
    seen: Snapshot = field(default_factory=snapshot)
    unrecordable: bool = False
    said: list[str] = field(default_factory=list)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    answer_now: asyncio.Event = field(default_factory=asyncio.Event)

    async def snapshot(self, action: Action) -> Snapshot:
        return self.seen

    async def refuse(self, case: Case) -> Answer:
        self.said.append(f"refuse {case.verdict.code}")
        return Answer(action=case.action.id, code=case.verdict.code)

    async def commit(self, case: Case) -> Intent | Stale | Answer:
        if self.unrecordable:
            raise Unrecordable("disk full")
        if self.stale > 0:
            self.stale -= 1
            return Stale()
        self.said.append("intent")
        return Intent(case=case, frame=b"{}", deadline_s=1, max_result_bytes=1)

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        self.said.append("send")
        self.sent.set()
        await self.answer_now.wait()
        return Outcome(kind=OutcomeKind.OK, result={"content": []})

    def cancel(self, action_id: str) -> None:
        self.said.append("cancel")
        self.answer_now.set()

    def frame(self, action: Action) -> bytes:
        return b"{}"

    async def settle(self, intent: Intent, outcome: Outcome) -> Answer:
        self.said.append("outcome")
        return Answer(action=intent.action.id, result=outcome.result)

    async def open(self, case: Case) -> Answer:
        self.said.append("ask")
        return Answer(action=case.action.id, code=Code.PENDING, ticket="apr_1")

    async def decided(self, ticket: str, wait_s: float) -> bool:
        return False


def pipeline(world: FakeWorld, *some: Stage) -> Pipeline:
    return Pipeline(stages=some, archive=world, books=world, road=world, desk=world)


def decided(some: list[Stage]) -> Verdict:
    return asyncio.run(pipeline(FakeWorld(), *some).decide(action())).verdict


@given(stages, verdicts)
@settings(max_examples=150)
@pytest.mark.promise("monotone-pipeline")
def test_adding_a_stage_never_loosens_a_decision(some: list[SaysStage], one_more: Verdict) -> None:
    before, after = decided([*some]), decided([*some, SaysStage(one_more)])
    assert after.severity >= before.severity or not some
    assert after.obligations >= before.obligations
    assert before.severity is Severity.DENY or after.asks >= before.asks


@given(stages)
@settings(max_examples=100)
def test_no_stage_can_take_back_what_another_said(some: list[SaysStage]) -> None:
    if some:
        assert decided([*some, ForgetfulStage()]).severity >= decided([*some]).severity


@pytest.mark.promise("no-stages-deny")
async def test_a_pipeline_without_stages_denies() -> None:
    world = FakeWorld()
    answer = await pipeline(world).mediate(action())
    assert answer.code is Code.UNAVAILABLE
    assert world.said == ["refuse unavailable"]


@pytest.mark.promise("stage-failure-denies")
async def test_a_stage_that_breaks_denies_and_nothing_runs() -> None:
    world = FakeWorld()
    answer = await pipeline(world, SaysStage(Verdict()), SaysStage(None)).mediate(action())
    assert answer.code is Code.UNAVAILABLE
    assert world.said == ["refuse unavailable"]


async def test_the_first_denial_ends_the_fold() -> None:
    late = SaysStage(Verdict())
    await pipeline(FakeWorld(), SaysStage(deny(Code.REVOKED)), late).mediate(action())
    assert late.seen == []


@pytest.mark.promise("unknown-obligation-denies")
async def test_an_unknown_obligation_denies() -> None:
    world = FakeWorld()
    answer = await pipeline(world, SaysStage(Verdict(obligations=frozenset({"wear a hat"})))).mediate(action())
    assert answer.code is Code.POLICY_REFUSED


@pytest.mark.promise("unrecordable-runs-nothing")
async def test_an_unrecordable_decision_runs_nothing() -> None:
    world = FakeWorld(unrecordable=True)
    with pytest.raises(Unrecordable):
        await pipeline(world, SaysStage(Verdict())).mediate(action())
    assert "send" not in world.said


async def test_a_permitted_call_is_recorded_before_and_after_it_is_sent() -> None:
    world = FakeWorld()
    world.answer_now.set()
    await pipeline(world, SaysStage(Verdict())).mediate(action())
    assert world.said == ["intent", "send", "outcome"]


async def test_a_decision_that_keeps_going_stale_is_refused_after_three_tries() -> None:
    world = FakeWorld(stale=MAX_TRIES)
    world.answer_now.set()
    answer = await pipeline(world, SaysStage(Verdict())).mediate(action())
    assert answer.code is Code.UNAVAILABLE
    assert "send" not in world.said


async def test_a_stale_decision_is_made_again() -> None:
    world = FakeWorld(stale=MAX_TRIES - 1)
    world.answer_now.set()
    answer = await pipeline(world, SaysStage(Verdict())).mediate(action())
    assert answer.result == {"content": []}


@pytest.mark.promise("cancel-keeps-outcome")
async def test_a_client_that_goes_away_asks_the_tool_to_stop_and_the_outcome_is_recorded() -> None:
    world = FakeWorld()
    line = pipeline(world, SaysStage(Verdict()))
    call = asyncio.create_task(line.mediate(action()))
    await world.sent.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await line.drain()
    assert world.said == ["intent", "send", "cancel", "outcome"]


SHOWN = ask(Code.UNPROVEN).asks


def approval_for(case: Case, label: Label = CLEAN, asks: frozenset[Reason] = SHOWN) -> Approval:
    return Approval(
        ticket="apr_1",
        call_digest=case.call_digest,
        authority=case.authority,
        label=label,
        asks=asks,
        expires=2_000.0,
        by="control:uid=0",
    )


async def test_an_approved_call_runs_and_carries_its_receipt() -> None:
    case = Case(action=action(), seen=snapshot())
    world = FakeWorld(seen=snapshot(approvals=(approval_for(case),)))
    decision = await pipeline(world, SaysStage(ask(Code.UNPROVEN))).decide(action())
    assert decision.verdict.severity is Severity.PERMIT
    assert decision.approval is not None


@pytest.mark.promise("approval-never-overrides-deny")
async def test_approval_never_overrides_a_denial() -> None:
    case = Case(action=action(), seen=snapshot())
    world = FakeWorld(seen=snapshot(approvals=(approval_for(case),)))
    line = pipeline(world, SaysStage(ask(Code.UNPROVEN)), SaysStage(deny(Code.POLICY_REFUSED)))
    assert (await line.mediate(action())).code is Code.POLICY_REFUSED
    assert world.said == ["refuse policy_refused"]


@pytest.mark.promise("approval-binds-the-call")
@pytest.mark.parametrize("changed", [{"arguments": {"to": "DE0"}}, {"name": "other"}, {"server": "other"}])
async def test_an_approval_is_for_one_exact_call(changed: dict[str, object]) -> None:
    case = Case(action=action(), seen=snapshot())
    world = FakeWorld(seen=snapshot(approvals=(approval_for(case),)))
    answer = await pipeline(world, SaysStage(ask(Code.UNPROVEN))).mediate(action(**changed))
    assert answer.code is Code.PENDING
    assert world.said == ["ask"]


class Carries:
    """A stage that finds one argument under a label, and asks."""

    name = "carries"

    def __init__(self, label: Label) -> None:
        self.label = label

    async def consider(self, case: Case) -> Case:
        spec = ArgumentSpec(role=Role.BODY)
        found = Argument(path="/memo", value="x", spec=spec, label=self.label)
        return replace(case, arguments=(found,)).joined(ask(Code.UNPROVEN))


@pytest.mark.promise("approval-shown-labels")
@pytest.mark.parametrize(
    "worse",
    [
        Label(integrity=Integrity.UNTRUSTED),
        Label(integrity=Integrity.ATTESTED, readers=frozenset({"user"})),
        Label(integrity=Integrity.ATTESTED, classes=frozenset({"passport"})),
    ],
)
async def test_an_approval_shown_under_better_labels_is_asked_anew(worse: Label) -> None:
    shown = Label(integrity=Integrity.ATTESTED)
    world = FakeWorld(seen=snapshot(approvals=(approval_for(Case(action=action(), seen=snapshot()), shown),)))
    world.answer_now.set()
    assert (await pipeline(world, Carries(shown)).mediate(action())).code is None
    assert (await pipeline(world, Carries(worse)).mediate(action())).code is Code.PENDING


@pytest.mark.promise("approval-meets-what-was-asked")
async def test_an_approval_does_not_answer_a_question_that_was_not_asked() -> None:
    case = Case(action=action(), seen=snapshot())
    world = FakeWorld(seen=snapshot(approvals=(approval_for(case),)))
    line = pipeline(world, SaysStage(ask(Code.UNPROVEN)), SaysStage(ask(Code.POLICY_REFUSED, "new rule")))
    assert (await line.mediate(action())).code is Code.PENDING


@pytest.mark.promise("broken-parts-deny")
async def test_a_desk_that_breaks_denies_in_bounded_time_and_nothing_runs() -> None:
    @dataclass
    class BrokenDesk(FakeWorld):
        async def open(self, case: Case) -> Answer:
            raise RuntimeError("the desk is gone")

    world = BrokenDesk()
    assert (await pipeline(world, SaysStage(ask(Code.UNPROVEN))).mediate(action())).code is Code.UNAVAILABLE
    assert world.said == []


@pytest.mark.promise("lost-outcome-is-unknown")
async def test_a_road_that_breaks_its_word_leaves_an_unknown_outcome() -> None:
    @dataclass
    class BrokenRoad(FakeWorld):
        async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
            raise RuntimeError("no value")

        async def settle(self, intent: Intent, outcome: Outcome) -> Answer:
            self.said.append(outcome.kind)
            return Answer(action=intent.action.id, code=outcome.code)

    world = BrokenRoad()
    assert (await pipeline(world, SaysStage(Verdict())).mediate(action())).code is Code.UNKNOWN_OUTCOME
    assert world.said == ["intent", "unknown"]


@pytest.mark.promise("cancel-keeps-outcome")
async def test_a_client_that_leaves_while_the_intent_is_written_is_not_acted_for() -> None:
    writing, written = asyncio.Event(), asyncio.Event()

    @dataclass
    class SlowBooks(FakeWorld):
        async def commit(self, case: Case) -> Intent | Stale | Answer:
            writing.set()
            await written.wait()
            return await super().commit(case)

        async def settle(self, intent: Intent, outcome: Outcome) -> Answer:
            self.said.append(outcome.kind)
            return Answer(action=intent.action.id, code=outcome.code)

    world = SlowBooks()
    line = pipeline(world, SaysStage(Verdict()))
    call = asyncio.create_task(line.mediate(action()))
    await writing.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    written.set()
    await line.drain()
    assert world.said == ["cancel", "intent", "not_sent"]


@pytest.mark.promise("lost-outcome-is-unknown")
async def test_a_call_that_was_sent_is_never_said_not_to_have_been_made() -> None:
    @dataclass
    class BrokenBooks(FakeWorld):
        async def settle(self, intent: Intent, outcome: Outcome) -> Answer:
            raise RuntimeError("no outcome can be written")

    world = BrokenBooks()
    world.answer_now.set()
    assert (await pipeline(world, SaysStage(Verdict())).mediate(action())).code is Code.UNKNOWN_OUTCOME
    assert "send" in world.said
