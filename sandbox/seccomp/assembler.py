"""From a readable list of refusals to the classic BPF program that the kernel runs before each system call.

The program looks at `struct seccomp_data` (number, architecture, six arguments) and answers per call. It refuses
foreign architectures (i386 on x86_64 has other numbers) by killing, and numbers past `newest`, x32's among them,
with ENOSYS. See https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

import errno
import json
import platform
import struct
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""`linux/audit.h`: what `seccomp_data.arch` holds; both are little-endian."""

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000
ERRNO: Final = 0x00050000

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must hold of the low 32 bits of one argument."""

    argument: int
    test: Literal["any_bit", "among", "not_among"]
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One call's answer: always, or when every condition holds."""

    call: str
    error: int
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    newest: int
    refusals: tuple[Refusal, ...]
    uncounted: tuple[Refusal, ...]
    """Refused as well where no control group counts memory."""
    numbers: Mapping[str, Mapping[str, int]]
    """Architecture to name to number; a call that an architecture lacks is not in its table."""


def load_rules() -> Rules:
    """The rules shipped with the package."""
    room = resources.files("sandbox.seccomp")
    stated = tomllib.loads(room.joinpath("rules.toml").read_text())
    return Rules(
        newest=stated["newest"],
        refusals=tuple(_refusals(stated["refuse"])),
        uncounted=tuple(_refusals(stated["uncounted"])),
        numbers=json.loads(room.joinpath("syscalls.json").read_text()),
    )


def assemble(rules: Rules, *, machine: str | None = None, counted: bool = True) -> bytes:
    """The filter, as an array of `struct sock_filter`.

    Args:
        machine: the architecture; this machine's unless told.
        counted: whether a control group counts memory.

    Raises:
        KeyError: the architecture has no table.
    """
    machine = machine or platform.machine()
    numbers = rules.numbers[machine]
    refusals = rules.refusals if counted else (*rules.refusals, *rules.uncounted)
    program: list[_Instruction] = [
        _Instruction(_LOAD, _ARCH),
        _Instruction(_JUMP_EQUAL, AUDIT_ARCH[machine], then=1),
        _Instruction(_RETURN, KILL_PROCESS),
        _Instruction(_LOAD, _NUMBER),
        _Instruction(_JUMP_ABOVE, rules.newest, otherwise=1),
        _Instruction(_RETURN, ERRNO | errno.ENOSYS),
    ]
    for call in sorted({refusal.call for refusal in refusals} & numbers.keys()):
        block = [step for refusal in refusals if refusal.call == call for step in _refuse(refusal)]
        block.append(_Instruction(_RETURN, ALLOW))
        program += [_Instruction(_JUMP_EQUAL, numbers[call], otherwise=len(block)), *block]
    program.append(_Instruction(_RETURN, ALLOW))
    return b"".join(map(_Instruction.pack, program))


@dataclass(frozen=True, slots=True)
class _Instruction:
    code: int
    operand: int
    then: int = 0
    """Instructions to skip when the jump's test holds."""
    otherwise: int = 0

    def pack(self) -> bytes:
        return struct.pack("<HBBI", self.code, self.then, self.otherwise, self.operand)


def _refusals(stated: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    for rule in stated:
        when = tuple(map(_condition, rule.get("when", ())))
        for call in rule["calls"]:
            yield Refusal(call=call, error=getattr(errno, rule["answer"]), when=when)


def _condition(stated: Mapping[str, object]) -> Condition:
    ((test, value),) = ((key, value) for key, value in stated.items() if key != "argument")
    argument = stated["argument"]
    assert isinstance(argument, int)
    match test, value:
        case "any_bit", int():
            return Condition(argument=argument, test="any_bit", values=(value,))
        case ("among" | "not_among") as listed, list():
            return Condition(argument=argument, test=listed, values=tuple(value))
        case _:
            raise ValueError(f"rules.toml: {test} is no condition")


def _refuse(refusal: Refusal) -> Sequence[_Instruction]:
    """Each condition that fails jumps past the refusal's end; the last instruction is the refusal itself."""
    steps = [_Instruction(_RETURN, ERRNO | refusal.error)]
    for condition in reversed(refusal.when):
        steps = [*_test(condition, len(steps)), *steps]
    return steps


def _test(condition: Condition, rest: int) -> Sequence[_Instruction]:
    """Fall through to the next `rest` instructions if the condition holds; skip them if it does not."""
    load = _Instruction(_LOAD, _ARGUMENTS + 8 * condition.argument)
    values, last = condition.values, len(condition.values) - 1
    match condition.test:
        case "any_bit":
            return [load, _Instruction(_JUMP_SET, values[0], otherwise=rest)]
        case "not_among":
            return [load, *(_Instruction(_JUMP_EQUAL, v, then=last - i + rest) for i, v in enumerate(values))]
        case "among":
            ends = (0 if i < last else rest for i in range(len(values)))
            return [
                load,
                *(
                    _Instruction(_JUMP_EQUAL, v, last - i, end)
                    for i, (v, end) in enumerate(zip(values, ends, strict=True))
                ),
            ]
