"""(2) Capability: each way a right can be missing has its code, and the rules that the call satisfies are learned."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.stages.capability import Capability
from gateway.stages.confinement import Confinement
from gateway.stages.policy import Policy
from policies.action import Action, Kind, Subject
from policies.bundle import Bundle, InForce, Sources
from policies.capability import Authority, Refused, Undecided, new_private_key
from policies.case import Case, Offer, Snapshot
from policies.engine import Decision
from policies.grant import Grant
from policies.jsonvalue import JSONObject
from policies.label import CLEAN
from policies.proofs import ProofIndex
from policies.rules import parse_rule
from policies.verdict import Code, Reason, Verdict

GRANT = Grant(rules=(parse_rule("bank.pay(amount <= 10)"), parse_rule("bank.*")), expires=100.0)
SUBJECT = Subject(principal="ana", agent="agt_1", task="task_1", holder="agt_1", root="tok_1", token="tok_1")


@dataclass(frozen=True)
class Says:
    answer: tuple[int, ...] | Refused | Undecided

    def authorise(self, subject: Subject, server: str, tool: str, arguments: JSONObject, now: float) -> Any:
        return self.answer

    def is_exactly(self, subject: Subject, grant: Grant) -> bool:
        return False


def case(subject: Subject = SUBJECT, amount: int = 5, **seen: Any) -> Case:
    snapshot: dict[str, Any] = {"now": 50.0, "task_version": 1, "grant": GRANT, "revoked": False, "mark": CLEAN}
    return Case(
        action=Action(
            id="act_1", kind=Kind.CALL_TOOL, subject=subject, server="bank", name="pay", arguments={"amount": amount}
        ),
        seen=Snapshot(task="task_1", proofs=ProofIndex(), **snapshot | seen),
    )


async def considered(given: Case, answer: tuple[int, ...] | Refused | Undecided = (0, 1)) -> Case:
    return await Capability(Says(answer)).consider(given)


async def test_the_rules_that_cover_the_call_are_learned() -> None:
    after = await considered(case())
    assert (after.rules, after.is_denied) == ((0, 1), False)


@pytest.mark.promise("revoked-dies")
async def test_what_was_revoked_is_denied() -> None:
    assert (await considered(case(revoked=True))).verdict.code is Code.REVOKED


@pytest.mark.parametrize(
    ("ends", "now", "denied"), [(60.0, 59.9, False), (60.0, 60.0, True), (None, 99.9, False), (None, 100.0, True)]
)
async def test_a_token_or_grant_is_over_at_its_end(ends: float | None, now: float, denied: bool) -> None:
    after = await considered(case(replace(SUBJECT, expires=ends), now=now))
    assert after.is_denied is denied
    assert not denied or after.verdict.code is Code.EXPIRED


async def test_a_spent_budget_of_calls_is_denied() -> None:
    assert (await considered(case(budgets={"calls": 0}))).verdict.code is Code.CAPABILITY_EXHAUSTED
    assert not (await considered(case(budgets={"calls": 1, "spend:EUR": 0}))).is_denied


async def test_not_covered_and_not_decided_have_codes_of_their_own() -> None:
    for answer, code in ((Refused("no rule"), Code.NO_CAPABILITY), (Undecided("limits"), Code.UNAVAILABLE)):
        after = await considered(case(), answer)
        assert after.verdict.denials == {Reason(code, answer.reason)}
        assert after.rules == ()


async def test_a_grant_that_was_narrowed_after_minting_narrows_the_token() -> None:
    assert (await considered(case(amount=11))).rules == (1,)
    narrowed = Grant(rules=GRANT.rules[:1])
    assert (await considered(case(grant=narrowed), (0, 1))).rules == (0,)
    assert (await considered(case(amount=11, grant=narrowed), (1,))).verdict.code is Code.NO_CAPABILITY


async def test_a_real_token_passes_the_stage() -> None:
    authority = Authority(new_private_key(), "ins_1")
    credential = authority.mint(GRANT, task="task_1", agent="agt_1", holder="agt_1", principal="ana", token="tok_1")
    subject = authority.read(credential, 50.0)
    assert isinstance(subject, Subject)
    stage = Capability(authority)
    assert (await stage.consider(case(subject))).rules == (0, 1)
    assert (await stage.consider(case(subject, amount=11))).rules == (1,)
    assert (await stage.consider(case(replace(subject, credential="forged")))).verdict.code is Code.NO_CAPABILITY


class Fixed:
    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def evaluate(self, document: JSONObject) -> Decision:
        return self.decision


async def test_a_policys_reasons_become_a_verdict_under_its_revision() -> None:
    decision = Decision(deny=("no",), ask=("sure?",), obligations=("log",))
    bundle = Bundle(revision="r1", engine=Fixed(decision), sources=Sources(modules={}, tests={}))
    after = await Policy(InForce(bundle)).consider(case())
    assert after.policy == "r1"
    assert after.verdict.denials == {Reason(Code.POLICY_REFUSED, "no")}
    assert after.verdict.asks == {Reason(Code.POLICY_REFUSED, "sure?")}
    assert after.verdict.obligations == {"log"}


async def test_a_policy_with_nothing_against_it_permits() -> None:
    bundle = Bundle(revision="r1", engine=Fixed(Decision()), sources=Sources(modules={}, tests={}))
    assert (await Policy(InForce(bundle)).consider(case())).verdict.severity == 0


@pytest.mark.promise("no-sandbox-no-run")
async def test_a_guarantee_that_is_not_held_is_named() -> None:
    demanded = frozenset({"network", "syscalls", "filesystem"})
    weak = Offer("bubblewrap", frozenset({"filesystem", "more"}))
    after = await Confinement().consider(case(demanded=demanded, offers=(weak,)))
    assert after.verdict.denials == {
        Reason(Code.NO_SANDBOX, "no sandbox holds what is demanded: bubblewrap lacks network, syscalls")
    }
    strong = Offer("vm", demanded | {"kernel"})
    held = await Confinement().consider(case(demanded=demanded, offers=(weak, Offer("runc", demanded), strong)))
    assert (held.is_denied, held.sandbox) == (False, "runc")


@pytest.mark.promise("policy-demands-walls")
async def test_a_policy_that_demands_more_gets_a_sandbox_that_holds_it_or_none() -> None:
    usual = frozenset({"network"})
    offers = (Offer("bubblewrap", usual), Offer("gvisor", usual | {"kernel"}))
    demands = Verdict(obligations=frozenset({"sandbox:kernel"}))
    held = await Confinement().consider(case(demanded=usual, offers=offers).joined(demands))
    assert held.sandbox == "gvisor"
    assert (await Confinement().consider(case(demanded=usual, offers=offers))).sandbox == "bubblewrap"
    assert (await Confinement().consider(case(demanded=usual, offers=offers[:1]).joined(demands))).is_denied
    assert (await Confinement().consider(case(demanded=frozenset(), offers=()))).is_denied
