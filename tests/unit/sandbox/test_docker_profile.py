"""The engine's profile must answer what the rules say, whatever is called: libseccomp is played here."""

import errno
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.docker.profile import LOW, failing, holding, profile
from sandbox.seccomp import load_rules
from sandbox.seccomp.assembler import Condition

RULES = load_rules()
PROFILE = json.loads(profile("x86_64"))
ALLOWED = 0


def answer(call: str, arguments: list[int]) -> int:
    """An error number, or 0; as with libseccomp, no two rules of a call may hold and disagree."""
    answers = {
        rule.get("errnoRet", errno.EPERM) if rule["action"] == "SCMP_ACT_ERRNO" else ALLOWED
        for rule in PROFILE["syscalls"]
        if call in rule["names"] and all(matches(each, arguments) for each in rule.get("args", ()))
    }
    assert len(answers) <= 1
    return answers.pop() if answers else errno.EPERM


def matches(compared: dict[str, Any], arguments: list[int]) -> bool:
    assert compared["op"] == "SCMP_CMP_MASKED_EQ"
    return bool(arguments[compared["index"]] & compared["value"] == compared["valueTwo"])


def holds(condition: Condition, value: int) -> bool:
    low = value & LOW
    match condition.test:
        case "any_bit":
            return bool(low & condition.values[0])
        case "among":
            return low in condition.values
        case "not_among":
            return low not in condition.values


low_values = st.integers(0, LOW) | st.sampled_from([0, 1, 2, 10, 40, 0x5412, 0x541C, 0x7E020080, 0o6000, 0o100])
arguments = st.lists(
    st.builds(lambda low, high: low | high << 32, low_values, st.sampled_from([0, 1, LOW])), min_size=6, max_size=6
)
conditions = st.builds(
    Condition,
    argument=st.just(0),
    test=st.sampled_from(["any_bit", "among", "not_among"]),
    values=st.lists(low_values.filter(bool), min_size=1, max_size=4, unique=True).map(tuple),
)


@pytest.mark.promise("docker-filter")
@given(refusal=st.sampled_from(RULES.refusals), given=arguments)
@settings(max_examples=300)
def test_the_profile_refuses_what_the_rules_refuse_and_nothing_else(refusal: Any, given: list[int]) -> None:
    refused = all(holds(condition, given[condition.argument]) for condition in refusal.when)
    assert answer(refusal.call, given) == (refusal.error if refused else ALLOWED)


@given(conditions, st.integers(0, 2**64 - 1) | low_values)
@settings(max_examples=200)
def test_exactly_one_pattern_speaks_for_any_argument(condition: Condition, value: int) -> None:
    held = [value & mask == wanted for _, mask, wanted in holding(condition)]
    failed = [value & mask == wanted for _, mask, wanted in failing(condition)]
    assert sum(held) == holds(condition, value)
    assert sum(failed) == (not holds(condition, value))


@pytest.mark.promise("docker-filter")
def test_a_call_that_nobody_has_heard_of_is_refused() -> None:
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert answer("a_call_of_next_year", [0] * 6) == errno.EPERM


@pytest.mark.parametrize("call", ["read", "openat", "execve", "futex", "clone", "rt_sigreturn", "exit_group", "statx"])
def test_what_every_program_needs_is_allowed(call: str) -> None:
    assert answer(call, [0] * 6) == ALLOWED


def test_what_is_spared_is_answered_and_nothing_else() -> None:
    spared = json.loads(profile("x86_64", spared=frozenset({"clone3"})))["syscalls"]
    usual = PROFILE["syscalls"]
    assert [rule for rule in usual[1:] if rule["names"] != ["clone3"]] == spared[1:]
    assert {*spared[0]["names"]} - {*usual[0]["names"]} == {"clone3"}


def test_a_processor_without_a_table_has_no_profile() -> None:
    with pytest.raises(KeyError):
        profile("m68k")
