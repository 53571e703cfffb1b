"""Our system call rules (`seccomp/rules.toml`) as the profile that Docker takes, exactly as strict.

Docker's filter is compiled by libseccomp, which looks at whole 64-bit arguments, once each per rule, and knows no call
newer than itself. So the profile is an allow-list (`calls.json`): what libseccomp does not know is refused. A condition
becomes masked comparisons of an argument's low 32 bits, which is what the kernel looks at: those that refuse, and
those that are left. See https://docs.docker.com/engine/security/seccomp/ and seccomp_rule_add(3).
"""

import errno
import json
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Final, TypeAlias, assert_never

from sandbox.seccomp.assembler import Condition, Refusal, Rules, load_rules

LOW: Final = 0xFFFFFFFF
ARCHITECTURES: Final = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

Pattern: TypeAlias = tuple[int, int, int]
"""(argument, mask, value): holds where `argument & mask == value`."""


@cache
def profile(machine: str | None = None, *, spared: frozenset[str] = frozenset()) -> str:
    """The profile's JSON.

    Args:
        spared: calls that are answered after all, whatever our rules say.

    Raises:
        KeyError: there is none for this processor.
    """
    rules = load_rules()
    known = json.loads(resources.files("sandbox.docker").joinpath("calls.json").read_text())
    refused = {call: refusal for call, refusal in _refused(rules).items() if call not in spared}
    always = [call for call in known if call not in refused]
    syscalls: list[dict[str, object]] = [{"names": always, "action": "SCMP_ACT_ALLOW"}]
    for refusal in refused.values():
        syscalls += _conditional(refusal)
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",  # EPERM, and of calls newer than all of these: ENOSYS
            "architectures": [ARCHITECTURES[machine or platform.machine()]],
            "syscalls": syscalls,
        }
    )


def holding(condition: Condition) -> list[Pattern]:
    """Patterns, no two of which hold of the same argument, one of which holds where the condition does."""
    match condition.test:
        case "any_bit":
            return [(condition.argument, mask, bit) for mask, bit in _lowest_bits(condition.values[0])]
        case "among":
            return [(condition.argument, LOW, value) for value in condition.values]
        case "not_among":
            return [(condition.argument, mask, value) for mask, value in _others(condition.values)]
        case _ as never:
            assert_never(never)


def failing(condition: Condition) -> list[Pattern]:
    """Patterns that hold where the condition does not."""
    match condition.test:
        case "any_bit":
            return [(condition.argument, condition.values[0], 0)]
        case "among":
            return [(condition.argument, mask, value) for mask, value in _others(condition.values)]
        case "not_among":
            return [(condition.argument, LOW, value) for value in condition.values]
        case _ as never:
            assert_never(never)


def _refused(rules: Rules) -> dict[str, Refusal]:
    refused = {refusal.call: refusal for refusal in rules.refusals}
    if len(refused) < len(rules.refusals):
        raise ValueError("rules.toml: two rules for one call")  # their complements would have to be intersected
    return refused


def _conditional(refusal: Refusal) -> Iterator[dict[str, object]]:
    """The rules of one call: what is left of it, and how the rest is answered where that is not as by default."""
    so_far: list[Pattern] = []  # of the conditions before this one, all of which hold
    alternatives: list[list[Pattern]] = [so_far]
    for condition in refusal.when:
        for before in alternatives:
            for pattern in failing(condition):
                yield _rule(refusal.call, [*before, pattern], "SCMP_ACT_ALLOW")
        alternatives = [[*before, pattern] for before in alternatives for pattern in holding(condition)]
    if refusal.error != errno.EPERM:
        for patterns in alternatives:
            yield _rule(refusal.call, patterns, "SCMP_ACT_ERRNO") | {"errnoRet": refusal.error}


def _rule(call: str, patterns: Sequence[Pattern], action: str) -> dict[str, object]:
    compared = [
        {"index": argument, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
        for argument, mask, value in patterns
    ]
    return {"names": [call], "action": action, "args": compared}


def _lowest_bits(mask: int) -> Iterator[tuple[int, int]]:
    """For each bit of the mask: it is set, and none below it."""
    looked_at = 0
    for position in range(32):
        bit = 1 << position
        if mask & bit:
            looked_at |= bit
            yield looked_at, bit


def _others(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(mask, value) of all numbers of 32 bits that are not listed: where they first leave every listed one's path."""
    for position in reversed(range(32)):
        mask = LOW ^ ((1 << position) - 1)
        paths = {value & mask for value in values}
        yield from ((mask, other) for other in sorted({path ^ (1 << position) for path in paths} - paths))
