"""(2) Capability: does the token stand, is budget left, and does it cover this call with these arguments?"""

from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from policies.action import Subject
from policies.capability import Refused, Undecided
from policies.case import Case
from policies.jsonvalue import JSONObject
from policies.rules import satisfies
from policies.verdict import Code


class Authority(Protocol):
    """Who can say what a token covers (`policies.capability`)."""

    def authorise(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, now: float
    ) -> tuple[int, ...] | Refused | Undecided: ...


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
        if any(end is not None and seen.now >= end for end in (action.subject.expires, seen.grant.expires)):
            return case.denied(Code.EXPIRED, "the token has expired")
        if seen.budgets.get("calls", 1) <= 0:
            return case.denied(Code.CAPABILITY_EXHAUSTED, "no calls are left")
        match self.authority.authorise(action.subject, action.server, action.name, action.arguments, seen.now):
            case Refused(reason):
                return case.denied(Code.NO_CAPABILITY, reason)
            case Undecided(reason):
                return case.denied(Code.UNAVAILABLE, reason)
            case tuple(covering):
                return _with_rules(case, covering)
            case never:
                assert_never(never)


def _with_rules(case: Case, covering: tuple[int, ...]) -> Case:
    """The case with its rules: proven by the token and still in the task's grant. Either can only narrow."""
    action, rules = case.action, case.seen.grant.rules
    standing = tuple(
        index
        for index in covering
        if index < len(rules) and satisfies(rules[index], action.server, action.name, action.arguments)
    )
    if not standing:
        return case.denied(Code.NO_CAPABILITY, "the task's grant no longer has the rule that the token was minted for")
    return replace(case, rules=standing)
