"""What a stage answers, and how answers combine.

`PERMIT < REQUIRE_APPROVAL < DENY`. A verdict is a product of three sets, so joining is a union: the highest severity,
every obligation of both, every approval that either demands (XACML's deny-overrides). Adding a stage can only make
a decision stricter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Code(StrEnum):
    """Why an agent did not get its result: the whole of what it is told, besides one constant sentence."""

    UNKNOWN_TOOL = "unknown_tool"
    NOT_MEDIATED = "not_mediated"
    DEFINITION_CHANGED = "definition_changed"
    ARGUMENTS_INVALID = "arguments_invalid"
    NO_CAPABILITY = "no_capability"
    CAPABILITY_EXHAUSTED = "capability_exhausted"
    REVOKED = "revoked"
    UNPROVEN = "unproven"
    FLOW_REFUSED = "flow_refused"
    POLICY_REFUSED = "policy_refused"
    NO_SANDBOX = "no_sandbox"
    PENDING = "pending"
    DENIED_BY_PERSON = "denied_by_person"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UNKNOWN_OUTCOME = "unknown_outcome"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


class Severity(IntEnum):
    """How strict a verdict is."""

    PERMIT = 0
    REQUIRE_APPROVAL = 1
    DENY = 2


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """One ground of a verdict: for the log and the person, never for the agent (it is told the code alone)."""

    code: Code
    detail: str = ""
    path: str = ""
    """The argument it speaks of, as a JSON pointer; empty for the whole call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is denied, what a person must approve, and what must hold if it runs."""

    denials: frozenset[Reason] = frozenset()
    asks: frozenset[Reason] = frozenset()
    obligations: frozenset[str] = frozenset()
    """Known ones only: an unknown obligation denies (`pipeline.py`)."""

    @property
    def severity(self) -> Severity:
        if self.denials:
            return Severity.DENY
        return Severity.REQUIRE_APPROVAL if self.asks else Severity.PERMIT

    @property
    def code(self) -> Code:
        """The one code that an agent is told; only of a verdict that does not permit."""
        if not self.denials:
            return Code.PENDING
        return min(self.denials, key=lambda reason: _ORDER[reason.code]).code

    def join(self, other: "Verdict") -> "Verdict":
        if other is self or not (other.denials or other.asks or other.obligations):
            return self
        return Verdict(
            denials=self.denials | other.denials,
            asks=self.asks | other.asks,
            obligations=self.obligations | other.obligations,
        )


_ORDER = {code: place for place, code in enumerate(Code)}

PERMIT = Verdict()
"""Nothing against it."""


def deny(code: Code, detail: str = "", path: str = "") -> Verdict:
    return Verdict(denials=frozenset({Reason(code, detail, path)}))


def ask(code: Code, detail: str = "", path: str = "") -> Verdict:
    return Verdict(asks=frozenset({Reason(code, detail, path)}))


def join_all(verdicts: Iterable[Verdict]) -> Verdict:
    """The join of all; `PERMIT` of none. One union each, however many there are."""
    met = list(verdicts)
    if not met:
        return PERMIT
    return Verdict(
        denials=frozenset().union(*(verdict.denials for verdict in met)),
        asks=frozenset().union(*(verdict.asks for verdict in met)),
        obligations=frozenset().union(*(verdict.obligations for verdict in met)),
    )
