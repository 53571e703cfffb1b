"""(2) Capability: does the token stand, is budget left, and does it cover this call with these arguments?"""

from dataclasses import dataclass
from typing import Protocol, assert_never

from policies.action import Subject
from policies.capability import Refused, Undecided
from policies.case import Case
from policies.grant import Grant
from policies.jsonvalue import JSONObject
from policies.rules import satisfied
from policies.verdict import Code


class Authority(Protocol):
    """Who can say what a token covers (`policies.capability`)."""

    def authorise(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, now: float
    ) -> tuple[int, ...] | Refused | Undecided: ...

    def is_exactly(self, subject: Subject, grant: Grant) -> bool: ...


@dataclass(frozen=True, slots=True)
class Capability:
    """The stage; it learns which of the grant's rules the call satisfies whole."""

    authority: Authority
    name: str = "capability"

    async def consider(self, case: Case) -> Case:
        action, seen = case.action, case.seen
        if seen.revoked:
            return case.denied(
                Code.REVOKED, "the task, the token or one it came from was revoked, or is not known here"
            )
        if _is_over(action.subject.expires, seen.now) or _is_over(seen.grant.expires, seen.now):
            return case.denied(Code.EXPIRED, "the token has expired")
        if seen.budgets.get("calls", 1) <= 0:
            return case.denied(Code.CAPABILITY_EXHAUSTED, "no calls are left")
        for budget, amount in action.takes:
            if (left := seen.budgets.get(budget, 0)) < amount:
                return case.denied(Code.CAPABILITY_EXHAUSTED, f"{amount} {budget} are needed, {left} are left")
        if self.authority.is_exactly(action.subject, seen.grant):
            return _with_rules(case, None)
        match self.authority.authorise(action.subject, action.server, action.name, action.arguments, seen.now):
            case Refused(reason):
                return case.denied(Code.NO_CAPABILITY, reason)
            case Undecided(reason):
                return case.denied(Code.UNAVAILABLE, reason)
            case tuple(covering):
                return _with_rules(case, covering)
            case never:
                assert_never(never)


def _is_over(end: float | None, now: float) -> bool:
    return end is not None and now >= end


def _with_rules(case: Case, covering: tuple[int, ...] | None) -> Case:
    """The case with its rules: covered by the token (None: it says just the grant) and still in the task's grant."""
    action, rules = case.action, case.seen.grant.rules
    standing = satisfied(rules, action.server, action.name, action.arguments)
    if covering is not None:
        standing = tuple(index for index in standing if index in covering)
    if not standing:
        return case.denied(
            Code.NO_CAPABILITY, f"no rule of the grant covers {action.server}.{action.name} with these arguments"
        )
    return case.learned(rules=standing)
