"""Verdicts join like sets: nothing that one stage demands is lost to another."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.verdict import PERMIT, Code, Reason, Severity, Verdict, ask, deny, join_all

reasons = st.builds(Reason, st.sampled_from(list(Code)), st.sampled_from(["", "why"]), st.sampled_from(["", "/to"]))
some = st.frozensets(reasons, max_size=3)
verdicts = st.builds(
    Verdict, denials=some, asks=some, obligations=st.frozensets(st.sampled_from(["redact", "log"]), max_size=2)
)
few = settings(max_examples=60)


@few
@given(verdicts, verdicts, verdicts)
def test_joining_is_associative_commutative_and_idempotent(a: Verdict, b: Verdict, c: Verdict) -> None:
    assert a.join(b.join(c)) == a.join(b).join(c)
    assert a.join(b) == b.join(a)
    assert a.join(a) == a
    assert a.join(PERMIT) == a


@few
@given(st.lists(verdicts, max_size=4), verdicts)
def test_one_more_verdict_never_loosens(before: list[Verdict], one_more: Verdict) -> None:
    some, more = join_all(before), join_all([*before, one_more])
    assert more == reduce(Verdict.join, [*before, one_more], PERMIT)
    assert more.severity >= some.severity
    assert more.obligations >= some.obligations
    assert more.asks >= some.asks
    assert more.denials >= some.denials


def test_a_denial_outweighs_any_ask_and_names_the_code() -> None:
    both = ask(Code.UNPROVEN, path="/to").join(deny(Code.REVOKED))
    assert both.severity is Severity.DENY
    assert both.code is Code.REVOKED


def test_what_only_asks_is_told_as_pending() -> None:
    assert ask(Code.UNPROVEN).code is Code.PENDING
    assert PERMIT.severity is Severity.PERMIT
