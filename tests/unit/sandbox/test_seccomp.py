"""The filter is run here by a small BPF machine, and must answer what the rules say, whatever is called."""

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.seccomp import assemble, load_rules
from sandbox.seccomp.assembler import ALLOW, AUDIT_ARCH, ERRNO, KILL_PROCESS, Condition, Refusal, Rules

RULES = load_rules()
LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06


def answer(program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = AUDIT_ARCH["x86_64"]) -> int:
    """What the kernel would do: `struct seccomp_data` in, an action out."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("<HBBI", program))
    at = value = 0
    while True:
        code, then, otherwise, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                at += then if value == operand else otherwise
            case 0x25:
                at += then if value > operand else otherwise
            case 0x45:
                at += then if value & operand else otherwise
            case 0x06:
                return operand


def expected(rules: Rules, call: str, arguments: tuple[int, ...]) -> int:
    for refusal in rules.refusals:
        if refusal.call == call and all(holds(each, arguments) for each in refusal.when):
            return ERRNO | refusal.error
    return ALLOW


def holds(condition: Condition, arguments: tuple[int, ...]) -> bool:
    low = arguments[condition.argument] & 0xFFFFFFFF
    match condition.test:
        case "any_bit":
            return bool(low & condition.values[0])
        case "among":
            return low in condition.values
        case "not_among":
            return low not in condition.values


conditions = st.builds(
    Condition,
    argument=st.integers(0, 5),
    test=st.sampled_from(["among", "not_among"]),
    values=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
) | st.builds(
    Condition, argument=st.integers(0, 5), test=st.just("any_bit"), values=st.integers(1, 7).map(lambda v: (v,))
)

refusals = st.builds(
    Refusal,
    call=st.sampled_from("abc"),
    error=st.sampled_from([errno.EPERM, errno.ENOSYS]),
    when=st.lists(conditions, max_size=3).map(tuple),
)


@given(
    st.lists(refusals, max_size=6).map(tuple),
    st.sampled_from("abcd"),
    st.tuples(*[st.integers(0, 6) | st.integers(0, 2**64 - 1)] * 6),
)
@settings(max_examples=200, deadline=None)
def test_the_program_answers_what_the_rules_say(
    listed: tuple[Refusal, ...], call: str, arguments: tuple[int, ...]
) -> None:
    numbers = {"a": 1, "b": 2, "c": 30, "d": 4}
    rules = Rules(newest=40, refusals=listed, uncounted=(), numbers={"x86_64": numbers})
    assert answer(assemble(rules, machine="x86_64"), numbers[call], arguments) == expected(rules, call, arguments)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_named_is_refused_on_both_architectures(machine: str) -> None:
    program = assemble(RULES, machine=machine)
    always = [refusal for refusal in RULES.refusals if not refusal.when and refusal.call in RULES.numbers[machine]]
    assert len(always) > 50
    for refusal in always:
        number = RULES.numbers[machine][refusal.call]
        assert answer(program, number, arch=AUDIT_ARCH[machine]) == ERRNO | refusal.error, refusal.call


def test_every_call_named_has_a_number() -> None:
    known = RULES.numbers["x86_64"].keys()
    assert {refusal.call for refusal in (*RULES.refusals, *RULES.uncounted)} == known
    assert RULES.numbers["aarch64"].keys() <= known


def test_another_architectures_numbers_are_fatal() -> None:
    assert answer(assemble(RULES, machine="x86_64"), 0, arch=0x40000003) == KILL_PROCESS


def test_calls_newer_than_the_rules_do_not_exist() -> None:
    program = assemble(RULES, machine="x86_64")
    assert answer(program, RULES.newest) == ALLOW
    assert answer(program, RULES.newest + 1) == ERRNO | errno.ENOSYS
    assert answer(program, 0x40000000 | 1) == ERRNO | errno.ENOSYS  # x32


@pytest.mark.parametrize(
    ("family", "allowed"), [(1, False), (2, True), (10, True), (16, False), (17, False), (38, False), (40, False)]
)
def test_only_ordinary_sockets_are_made(family: int, allowed: bool) -> None:
    got = answer(assemble(RULES, machine="x86_64"), 41, (family, 1, 0))
    assert got == (ALLOW if allowed else ERRNO | errno.EAFNOSUPPORT)


@pytest.mark.parametrize(("family", "allowed"), [(1, True), (2, False), (16, False)])
def test_only_a_pair_that_reaches_nobody_else_is_made(family: int, allowed: bool) -> None:
    got = answer(assemble(RULES, machine="x86_64"), 53, (family, 1, 0))
    assert got == (ALLOW if allowed else ERRNO | errno.EAFNOSUPPORT)


def test_threads_are_made_and_namespaces_are_not() -> None:
    program = assemble(RULES, machine="x86_64")
    assert answer(program, 56, (0x3D0F00,)) == ALLOW  # what a thread library asks for
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert answer(program, 56, (flag | 17,)) == ERRNO | errno.EPERM


def test_a_file_is_made_but_not_with_a_setuid_bit() -> None:
    program = assemble(RULES, machine="x86_64")
    at, create = 2**64 - 100, 0o100
    assert answer(program, 257, (at, 0, create, 0o644)) == ALLOW
    assert answer(program, 257, (at, 0, create, 0o4755)) == ERRNO | errno.EPERM
    assert answer(program, 257, (at, 0, 0, 0o4755)) == ALLOW  # makes nothing: the mode is not looked at
    assert answer(program, 90, (0, 0o2755)) == ERRNO | errno.EPERM


def test_memory_that_no_process_holds_is_refused_where_nothing_counts_it() -> None:
    memfd = RULES.numbers["x86_64"]["memfd_create"]
    assert answer(assemble(RULES, machine="x86_64"), memfd) == ALLOW
    assert answer(assemble(RULES, machine="x86_64", counted=False), memfd) == ERRNO | errno.ENOSYS
