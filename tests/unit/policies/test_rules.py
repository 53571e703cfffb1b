"""RULE: what a person may write, what it admits, and how a grant is kept."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.grant import Constraint, Grant, Op, Rule
from policies.grantjson import decode_grant, encode_grant
from policies.rules import RuleError, argument_path, bounded_values, check_rule, parse_rule, satisfies, str_rule

PAY = 'bank.pay(to = "DE89", amount_cents <= 80000, currency in ["EUR"], memo startswith "rent")'
CALL: dict[str, Any] = {"to": "DE89", "amount_cents": 100, "currency": "EUR", "memo": "rent May"}

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
whole = st.integers(-(2**63), 2**63 - 1)
names = st.sampled_from(["to", "amount_cents", "/items/0/price", "odd name", "in"]) | texts.filter(bool)
constraints = (
    st.builds(Constraint, names, st.just(Op.EQUALS), st.tuples(texts | whole | st.booleans()))
    | st.builds(Constraint, names, st.sampled_from([Op.AT_MOST, Op.AT_LEAST]), st.tuples(whole))
    | st.builds(Constraint, names, st.just(Op.IN), st.lists(texts, min_size=1, max_size=3).map(tuple))
    | st.builds(Constraint, names, st.just(Op.STARTS_WITH), st.tuples(st.sampled_from(["rent", "/data/", "ä"])))
)
rules = st.builds(
    Rule,
    st.sampled_from(["bank", "a-1"]),
    st.sampled_from(["pay", "*", "a.b/c"]),
    st.lists(constraints, max_size=3).map(tuple),
)


def test_the_grammar_of_the_page_is_read() -> None:
    assert parse_rule(PAY) == Rule(
        "bank",
        "pay",
        (
            Constraint("to", Op.EQUALS, ("DE89",)),
            Constraint("amount_cents", Op.AT_MOST, (80000,)),
            Constraint("currency", Op.IN, ("EUR",)),
            Constraint("memo", Op.STARTS_WITH, ("rent",)),
        ),
    )
    assert parse_rule(" files.* ") == Rule("files", "*")
    assert parse_rule("a.b(x=1,y>=-2,z=true)").constraints[1] == Constraint("y", Op.AT_LEAST, (-2,))


@given(rules)
def test_a_rule_reads_back_as_it_was_written(rule: Rule) -> None:
    assert parse_rule(str_rule(rule)) == rule


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "SERVER.TOOL"),
        ("Bank.pay", 1, "SERVER.TOOL"),
        ("bank", 1, "SERVER.TOOL"),
        ("bank.pay()", 10, "an argument's name"),
        ("bank.pay(to)", 12, "`=`"),
        ("bank.pay(to = DE89)", 15, "text in quotes"),
        ("bank.pay(to = 12.50)", 15, "a whole number"),
        ('bank.pay(to = "a"; x = 1)', 18, "`,` or `)`"),
        ('bank.pay(to = "a") x', 20, "the end"),
        ('bank.pay(to in "a")', 16, "`[`"),
        ('bank.pay(to in ["a", 1])', 16, "one type"),
        ("bank.pay(to in [])", 17, "text in quotes"),
        ('bank.pay(n <= "5")', 15, "a whole number"),
        ("bank.pay(n <= true)", 15, "a whole number"),
        ("bank.pay(n = 99999999999999999999)", 14, "64 bits"),
        ("bank.pay(n = " + "9" * 5000 + ")", 14, "whole number"),
        ('bank.pay(to = "\\ud800")', 15, "expected text"),
        ('bank.pay(to startswith "")', 24, "expected text"),
        ('files.read(path startswith "/a/../")', 28, "without `..`"),
        ('web.get(url startswith "https://example.com")', 24, "after the host"),
        ('bank.pay(to = "a\nb")', 15, "text in quotes"),
    ],
)
def test_an_error_points_at_the_column_and_says_what_was_expected(text: str, column: int, expected: str) -> None:
    with pytest.raises(RuleError) as error:
        parse_rule(text)
    assert error.value.column == column
    assert expected in str(error.value)


@given(st.text(max_size=30) | st.text('bank.py(to="1,)[]<in ', max_size=30).map("bank.pay(".__add__))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        rule = parse_rule(text)
    except RuleError:
        return
    check_rule(rule)


def test_a_call_must_satisfy_one_rule_whole() -> None:
    rule = parse_rule(PAY)
    assert satisfies(rule, "bank", "pay", CALL)
    assert not satisfies(rule, "bank", "refund", CALL)
    assert not satisfies(rule, "bang", "pay", CALL)
    for change in ({"to": "DE90"}, {"amount_cents": 80001}, {"currency": "USD"}, {"memo": "for rent"}):
        assert not satisfies(rule, "bank", "pay", CALL | change)
    for name in CALL:
        assert not satisfies(rule, "bank", "pay", {k: v for k, v in CALL.items() if k != name})


@pytest.mark.parametrize("value", ["100", 100.0, True, None, [], {}, 2**63, [100, 80001], [100, "a"], [[100]]])
def test_only_whole_numbers_within_the_bound_are_within_it(value: Any) -> None:
    assert not satisfies(parse_rule(PAY), "bank", "pay", CALL | {"amount_cents": value})


def test_numbers_texts_and_flags_are_never_equal() -> None:
    assert not satisfies(parse_rule("a.b(x = 1)"), "a", "b", {"x": True})
    assert not satisfies(parse_rule("a.b(x = true)"), "a", "b", {"x": 1})
    assert not satisfies(parse_rule('a.b(x = "1")'), "a", "b", {"x": 1})


def test_a_list_is_admitted_element_by_element_and_never_empty() -> None:
    rule = parse_rule('mail.send(to in ["a@x", "b@x"])')
    assert satisfies(rule, "mail", "send", {"to": ["b@x", "a@x", "a@x"]})
    assert not satisfies(rule, "mail", "send", {"to": ["a@x", "evil@y"]})
    assert not satisfies(rule, "mail", "send", {"to": []})


def test_nested_arguments_are_named_by_pointer() -> None:
    rule = parse_rule('shop.buy(/items/0/price <= 5, "a/b" = "x")')
    assert argument_path(rule.constraints[1]) == "/a~1b"
    assert satisfies(rule, "shop", "buy", {"items": [{"price": 5}], "a/b": "x"})
    assert not satisfies(rule, "shop", "buy", {"items": [{"price": 6}], "a/b": "x"})


@pytest.mark.promise("prefix-not-climbed")
@pytest.mark.parametrize(
    "path", ["/data/../etc/passwd", "/data/..", "/data/%2e%2E/x", "/data/..%2fx", "/data/a\\..\\b", "/data/x%2f.."]
)
def test_a_prefix_admits_nothing_that_climbs_out_of_it(path: str) -> None:
    rule = parse_rule('files.read(path startswith "/data/")')
    assert satisfies(rule, "files", "read", {"path": "/data/x..y/z"})
    assert not satisfies(rule, "files", "read", {"path": path})


def test_what_no_token_can_compare_bounds_nothing() -> None:
    arguments = {"f": 1.5, "n": None, "big": 2**63, "bad": "\ud800", "\ud800": "x", "mixed": [1, True], "ok": [1, 2]}
    assert bounded_values(arguments) == {
        "/mixed/0": (1,), "/mixed/1": (True,), "/ok/0": (1,), "/ok/1": (2,), "/ok": (1, 2)
    }  # fmt: skip


@given(
    st.builds(
        Grant,
        rules=st.lists(rules, max_size=3).map(tuple),
        calls=st.none() | st.integers(0, 9),
        spend=st.dictionaries(st.sampled_from(["EUR", "USD"]), st.integers(0, 10**6)),
        expires=st.none() | st.floats(0, 4e9),
    )
)
@settings(max_examples=50)
def test_a_grant_is_kept_whole(grant: Grant) -> None:
    assert decode_grant(encode_grant(grant)) == grant


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rules":[["Bank","pay",[]]],"calls":null,"spend":{},"expires":null}', '{"rules":[1]}',
             '{"rules":[["a","b",[["x","~",[1]]]]],"calls":null,"spend":{},"expires":null}']
)  # fmt: skip
def test_a_damaged_grant_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever sort
        decode_grant(text)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("bank", "pay; x"),
        Rule("bank", "pay", (Constraint("", Op.EQUALS, ("a",)),)),
        Rule("bank", "pay", (Constraint("a", Op.EQUALS, ("a", "b")),)),
        Rule("bank", "pay", (Constraint("a", Op.IN, ()),)),
        Rule("bank", "pay", (Constraint("a", Op.AT_MOST, (True,)),)),
    ],
)
def test_a_rule_that_no_text_could_say_is_refused(rule: Rule) -> None:
    with pytest.raises(RuleError):
        check_rule(rule)
