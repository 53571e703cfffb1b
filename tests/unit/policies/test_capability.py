"""Capability tokens: what a grant covers, what a holder can take away, and what nobody can add."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from biscuit_auth import (
    Algorithm,
    AuthorizationError,
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    KeyPair,
    PrivateKey,
    PublicKey,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies import capability
from policies.action import Subject
from policies.capability import Authority, CapabilityError, Refused, Undecided, new_private_key
from policies.grant import Constraint, Grant, Op, Rule
from policies.rules import bounded_values, parse_rule, satisfies

KEY = new_private_key()
AUTHORITY = Authority(KEY, "ins_1")
ROOT = PublicKey.from_bytes(bytes.fromhex(AUTHORITY.public_key.removeprefix("ed25519/")), Algorithm.Ed25519)
NOW = 1_000.0
PAY = parse_rule('bank.pay(to = "DE89", amount_cents <= 80000, currency in ["EUR"], memo startswith "rent")')
CALL: dict[str, Any] = {"to": "DE89", "amount_cents": 100, "currency": "EUR", "memo": "rent May"}


def mint(*rules: Rule, expires: float | None = None, authority: Authority = AUTHORITY, **claims: str) -> str:
    who = {"task": "task_1", "agent": "agt_1", "holder": "agt_1", "principal": "ana", "token": "tok_1"} | claims
    return authority.mint(Grant(rules=rules, expires=expires), **who)


def subject_of(credential: str, authority: Authority = AUTHORITY) -> Subject:
    subject = authority.read(credential, NOW)
    assert isinstance(subject, Subject)
    return subject


def attenuate(credential: str, *blocks: str) -> str:
    """What a holder does offline, with the public key alone."""
    token = Biscuit.from_base64(credential, ROOT)
    for block in blocks:
        token = token.append(BlockBuilder(block))
    return str(token.to_base64())


def covers(credential: str, arguments: dict[str, Any], *, tool: str = "pay", now: float = NOW) -> Any:
    return AUTHORITY.authorise(subject_of(credential), "bank", tool, arguments, now)


def test_a_token_says_who_acts_for_which_task() -> None:
    subject = subject_of(mint(PAY, expires=5_000.9))
    assert (subject.task, subject.agent, subject.holder, subject.principal) == ("task_1", "agt_1", "agt_1", "ana")
    assert (subject.root, subject.token, subject.expires) == ("tok_1", "tok_1", 5_000.0)
    assert len(subject.chain) == 1
    assert subject.credential not in repr(subject)


@pytest.mark.promise("stored-grant-cannot-widen")
@pytest.mark.parametrize("stored", [(PAY, parse_rule("bank.*")), (parse_rule("bank.pay"),), ()])
def test_a_token_is_not_taken_for_a_grant_that_somebody_edited_in_the_store(stored: tuple[Rule, ...]) -> None:
    subject = subject_of(mint(PAY))
    assert not AUTHORITY.is_exactly(subject, Grant(rules=stored))
    assert AUTHORITY.is_exactly(subject, Grant(rules=(PAY,)))
    assert not AUTHORITY.is_exactly(subject, Grant(rules=stored)), "the comparison is remembered for one grant alone"


def test_a_narrowed_token_is_never_taken_for_its_grant() -> None:
    child = subject_of(attenuate(mint(PAY), 'check if ints("/amount_cents", $a), $a.all($x -> $x <= 5)'))
    assert not AUTHORITY.is_exactly(child, Grant(rules=(PAY,)))


def test_a_call_is_covered_by_the_rules_it_satisfies_whole() -> None:
    token = mint(PAY, parse_rule("bank.*"), parse_rule("mail.send"))
    assert covers(token, CALL) == (0, 1)
    assert covers(token, CALL | {"to": "evil"}) == (1,)
    assert covers(mint(PAY), CALL | {"to": "evil"}) == Refused(
        "no rule of the grant covers bank.pay with these arguments"
    )
    assert isinstance(covers(mint(), CALL), Refused)


texts = st.sampled_from(["DE89", "rent", "rent/../x", "", 'a"); allowed(0); x("', "{p}", "$x", "ä\0b", "//", "🦊"])
scalars = texts | st.integers(-3, 3) | st.booleans() | st.sampled_from([2**63 - 1, -(2**63), 2**63])
values = scalars | st.none() | st.floats(allow_nan=False) | st.lists(scalars, max_size=3)
names = st.sampled_from(["a", "b", "/c/0", "/c/d", 'n"); allowed(0); m("'])
of_type = st.sampled_from([texts, st.integers(-3, 3), st.booleans()])
constraints = (
    st.builds(
        lambda name, value: Constraint(name, Op.EQUALS, (value,)), names, texts | st.integers(-3, 3) | st.booleans()
    )
    | st.builds(
        lambda name, some: Constraint(name, Op.IN, tuple(some)),
        names,
        of_type.flatmap(lambda t: st.lists(t, min_size=1, max_size=2)),
    )
    | st.builds(
        lambda name, op, n: Constraint(name, op, (n,)),
        names,
        st.sampled_from([Op.AT_MOST, Op.AT_LEAST]),
        st.integers(-3, 3),
    )
    | st.builds(
        lambda name, text: Constraint(name, Op.STARTS_WITH, (text,)), names, st.sampled_from(["rent", "/", "🦊"])
    )
)
rules = st.builds(
    Rule, st.sampled_from(["bank", "mail"]), st.sampled_from(["pay", "*"]), st.lists(constraints, max_size=2).map(tuple)
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": values,
        "c": st.lists(values, max_size=2) | st.dictionaries(st.just("d"), values),
        'n"); allowed(0); m("': values,
    },
)


@pytest.mark.promise("grant-covers-exactly")
@settings(max_examples=150, deadline=None)
@given(st.lists(rules, min_size=1, max_size=3), arguments, st.sampled_from(["pay", 'x"); allowed(0); y("']))
@example([Rule("bank", "*", (Constraint("a", Op.EQUALS, ("",)),))], {"a": ""}, "pay")
def test_the_token_covers_what_the_rules_say_and_nothing_else(
    some: list[Rule], given_: dict[str, Any], tool: str
) -> None:
    expected = tuple(i for i, rule in enumerate(some) if satisfies(rule, "bank", tool, given_))
    found = covers(mint(*some), given_, tool=tool)
    assert (found if isinstance(found, tuple) else ()) == expected
    assert isinstance(found, tuple | Refused)


@pytest.mark.promise("attenuation-narrows")
@settings(max_examples=75, deadline=None)
@given(st.lists(rules, min_size=1, max_size=2), rules, arguments)
def test_a_child_covers_what_its_parent_and_its_own_checks_cover(
    some: list[Rule], narrower: Rule, given_: dict[str, Any]
) -> None:
    """The child's check is a rule of the grant's own kind, told by the same oracle."""
    source, parameters = capability.grant_rules([narrower])
    check = source.replace("allowed(0) <-", "check if")
    token = Biscuit.from_base64(
        mint(*some), KeyPair.from_private_key(PrivateKey.from_bytes(KEY, Algorithm.Ed25519)).public_key
    )
    child = token.append(BlockBuilder(check, parameters)).to_base64()
    parent = covers(mint(*some), given_)
    found = covers(child, given_)
    if isinstance(parent, tuple) and satisfies(narrower, "bank", "pay", given_):
        assert found == parent
    else:
        assert isinstance(found, Refused)


@pytest.mark.promise("attenuation-narrows")
@pytest.mark.parametrize(
    "block",
    [
        "allowed(0); allowed(1);",
        "allowed(0) <- call($s, $t);",
        'call("bank", "pay"); texts("/to", ["DE89"]); ints("/amount_cents", [1]);',
        'time(1970-01-01T00:00:01Z); instance("ins_1"); task("task_2"); agent("agt_2"); expires(2100-01-01T00:00:00Z);',
    ],
)
def test_an_appended_block_adds_nothing(block: str) -> None:
    """It is refused at the door; and were it not, the library keeps it out of the authority's sight."""
    token = mint(PAY, expires=2_000)
    child = attenuate(token, block)
    assert AUTHORITY.read(child, NOW) == Refused("an appended block may hold checks only")
    loose = Biscuit.from_base64(child, ROOT)
    known = capability._claims(loose, child)
    assert isinstance(known, capability._Known)
    assert (known.subject.task, known.subject.agent, known.subject.expires) == ("task_1", "agt_1", 2_000)
    context = {"server": "bank", "tool": "pay", "instance": "ins_1", "now": datetime.fromtimestamp(NOW, UTC)}
    assert capability._covered(loose, context, bounded_values(CALL)) == (0,)
    with pytest.raises(AuthorizationError, match="no matching policy"):
        capability._covered(loose, context, bounded_values(CALL | {"to": "evil"}))
    with pytest.raises(AuthorizationError, match="checks failed"):
        capability._covered(loose, context | {"now": datetime.fromtimestamp(2_000, UTC)}, bounded_values(CALL))


@pytest.mark.promise("attenuation-bounded")
@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("n(1)", "checks only"),
        ("n($a) <- call($a, $b)", "checks only"),
        ("check if texts($a, $b), texts($c, $d), $b === $d", "one predicate"),
        ("check if call($s, $t) or texts($a, $b), ints($c, $d)", "one predicate"),
        ("reject if texts($a, $b), texts($c, $d)", "one predicate"),
        ('check if texts("/to", $v), $v.any($a -> $v.any($b -> $a !== $b))', "nest closures"),
        ('check if texts("/to", $v), true && $v.any($a -> true && $v.any($b -> $a !== $b))', "nest closures"),
        ('check if texts("/to", $v), $v.all($a -> $a.matches("(a{100}){100}"))', "regular expressions"),
        ("check if " + " && ".join(["1 < 2"] * 100), "too long"),
        ("; ".join(["check if true"] * 17), "more than 16 checks"),
        ('check if call("bank", $t) trusting previous', "whom it trusts"),
    ],
)
def test_a_holder_cannot_make_the_gateway_work_without_bound(block: str, why: str) -> None:
    found = AUTHORITY.read(attenuate(mint(PAY), block), NOW)
    assert isinstance(found, Refused)
    assert why in found.reason


def test_a_block_signed_by_another_is_not_taken() -> None:
    stranger = KeyPair()
    token = Biscuit.from_base64(mint(PAY), ROOT)
    block = token.third_party_request().create_block(stranger.private_key, BlockBuilder("check if true"))
    child = token.append_third_party(stranger.public_key, block).to_base64()
    assert AUTHORITY.read(child, NOW) == Refused("blocks signed by others are not taken yet")


def test_what_a_holder_may_well_check_is_taken() -> None:
    child = attenuate(
        mint(PAY),
        'check if call("bank", $tool), time($t), $t < 1970-01-01T00:20:00Z',
        'check if ints("/amount_cents", $v), texts("/to", $w), $v.all($n -> $n <= 50) || $w.any($x -> $x == "x")',
        'reject if call("mail", $t); check all texts($p, $v), $v.length() < 3',
    )
    assert covers(child, CALL | {"amount_cents": 50}) == (0,)
    assert isinstance(covers(child, CALL), Refused)


def test_a_childs_chain_holds_its_parents_revocation_ids() -> None:
    parent = subject_of(mint(PAY))
    child = subject_of(attenuate(parent.credential, 'check if call("bank", $t)', 'check if call($s, "pay")'))
    assert child.chain[:1] == parent.chain
    assert len(set(child.chain)) == 3
    assert (child.root, child.token) == ("tok_1", child.chain[-1])


def test_a_childs_own_end_is_asked_per_call() -> None:
    child = attenuate(mint(PAY), "check if time($t), $t < 1970-01-01T00:20:00Z")
    assert covers(child, CALL, now=1_199) == (0,)
    assert isinstance(covers(child, CALL, now=1_200), Refused)


@pytest.mark.promise("token-genuine")
def test_a_foreign_or_damaged_token_is_refused_with_a_sentence() -> None:
    stranger = mint(PAY, authority=Authority(new_private_key(), "ins_1"))
    good = mint(PAY)
    raw = bytearray(base64.urlsafe_b64decode(good))
    raw[len(raw) // 2] ^= 1
    unsaid = BiscuitBuilder('task("task_1")').build(PrivateKey.from_bytes(KEY, Algorithm.Ed25519)).to_base64()
    for credential in (
        stranger,
        base64.urlsafe_b64encode(raw).decode(),
        unsaid,
        good[:-9],
        "",
        "x",
        "é",
        "\ud800",
        "\0",
    ):
        assert AUTHORITY.read(credential, NOW) == Refused("this is not a token of this gateway")
    assert AUTHORITY.read("A" * 40_000, NOW) == Refused("the token is too long")


def test_a_token_for_another_gateway_is_refused_wherever_it_is_shown() -> None:
    other = Authority(KEY, "ins_2")
    assert other.read(mint(PAY), NOW) == Refused("the token was minted for another gateway")
    assert isinstance(other.authorise(subject_of(mint(PAY)), "bank", "pay", CALL, NOW), Refused)


def test_a_token_ends_at_its_second() -> None:
    token = mint(PAY, expires=2_000.7)
    subject = subject_of(token)
    assert AUTHORITY.read(token, 1_999.9) == subject
    assert AUTHORITY.authorise(subject, "bank", "pay", CALL, 1_999.9) == (0,)
    assert AUTHORITY.read(token, 2_000) == Refused("the token has expired")
    assert isinstance(AUTHORITY.authorise(subject, "bank", "pay", CALL, 2_000), Refused)


def test_an_endless_chain_is_refused() -> None:
    assert AUTHORITY.read(attenuate(mint(PAY), *["check if true"] * 16), NOW) == Refused(
        "the token was attenuated too often"
    )


@pytest.mark.promise("undecided-is-not-denied")
def test_what_cannot_be_evaluated_is_undecided() -> None:
    assert isinstance(covers(attenuate(mint(PAY), 'check if texts("/to", $v), $v > 3'), CALL), Undecided)
    assert isinstance(covers(mint(parse_rule("bank.*")), {"n": list(range(3_000))}), Undecided)
    assert isinstance(covers(mint(PAY), CALL, tool="\ud800"), Undecided)
    assert isinstance(covers(mint(PAY), CALL, now=1e30), Undecided)


def test_a_limit_that_is_reached_is_not_a_denial() -> None:
    assert isinstance(capability._why_not("Reached Datalog execution limits", "bank.pay"), Undecided)
    assert isinstance(capability._why_not("authorization failed: no matching policy was found", "bank.pay"), Refused)


def test_verdicts_are_not_remembered_and_tokens_are() -> None:
    authority = Authority(KEY, "ins_1")
    token = attenuate(mint(PAY), 'check if ints("/amount_cents", $v), $v.all($n -> $n <= 50)')
    subject = subject_of(token, authority)
    for _ in range(2):
        assert isinstance(authority.authorise(subject, "bank", "pay", CALL, NOW), Refused)
        assert authority.authorise(subject, "bank", "pay", CALL | {"amount_cents": 50}, NOW) == (0,)
    assert authority.read(token, NOW) is subject


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "KEPT", 2)
    authority = Authority(KEY, "ins_1")
    tokens = [mint(PAY, task=f"task_{i}") for i in range(4)]
    assert [subject_of(token, authority).task for token in tokens * 2] == [f"task_{i}" for i in range(4)] * 2


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        (Grant(rules=(PAY,) * 300), "too many rules"),
        (Grant(rules=(PAY,), expires=1e30), "no token can carry"),
        (Grant(rules=(PAY,), expires=-5.0), "no token can carry"),
        (Grant(rules=(Rule("bank", "pay", (Constraint("a", Op.EQUALS, ("\ud800",)),)),)), "expected text"),
    ],
)
def test_a_grant_that_no_token_can_carry_is_an_error(grant: Grant, why: str) -> None:
    with pytest.raises((CapabilityError, ValueError), match=why):
        AUTHORITY.mint(grant, task="t", agent="a", holder="a", principal="p", token="tok")


def test_a_person_can_look_into_a_token() -> None:
    found = AUTHORITY.inspect(attenuate(mint(PAY, expires=10), 'check if call("bank", "pay")'))
    assert isinstance(found, capability.Inspection)
    assert found.audience == "ins_1"
    assert found.subject.expires == 10
    assert 'allowed(0) <- call("bank", "pay")' in found.blocks[0]
    assert found.blocks[1] == 'check if call("bank", "pay");\n'
    assert AUTHORITY.inspect("x") == Refused("this is not a token of this gateway")


def test_a_panic_of_the_library_is_an_error_of_ours_and_others_pass() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(CapabilityError), capability._panics_as_errors():
        raise panic("boom")
    with pytest.raises(KeyboardInterrupt), capability._panics_as_errors():
        raise KeyboardInterrupt
