"""A rule or a pack that names what no server has is told as the typo it is; what cannot be known is let through."""

import pytest

from policies.currencies import DECIMALS
from policies.fit import misfit, pack_problems
from policies.jsonvalue import JSON
from policies.packs import parse_pack
from policies.rules import parse_rule

PAY: JSON = {"type": "object", "properties": {"to": {}, "amount_cents": {}, "a/b": {}}}
BANK: dict[str, JSON] = {"pay": PAY, "balance": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("bank.pya", "bank has no tool 'pya'; did you mean 'pay'?"),
        ("bank.transfer", "bank has no tool 'transfer'; there are 'balance', 'pay'"),
        ("bank.pay(amount_cent <= 3)", "bank.pay has no argument 'amount_cent'; did you mean 'amount_cents'?"),
        ('bank.pay(/too/0 = "x")', "bank.pay has no argument 'too'; did you mean 'to'?"),
        ('bank.balance(of = "me")', "bank.balance has no argument 'of'; there is none"),
        ('bank.*(of = "me")', "bank.* has no argument 'of'"),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_told_with_the_nearest(rule: str, said: str) -> None:
    assert misfit(parse_rule(rule), BANK).startswith(said)


@pytest.mark.parametrize("rule", ["bank.pay", "bank.*", 'bank.pay(to = "x", /a~1b = "y")', "bank.*(amount_cents <= 3)"])
def test_a_rule_that_fits_has_nothing_said_against_it(rule: str) -> None:
    assert misfit(parse_rule(rule), BANK) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**PAY, "additionalProperties": True},
        {**PAY, "additionalProperties": {"type": "string"}},
        {**PAY, "allOf": [{"properties": {"memo": {}}}]},
        {**PAY, "patternProperties": {"^m": {}}},
        None,
    ],
)
def test_a_schema_that_may_take_other_arguments_refuses_none(schema: JSON) -> None:
    assert misfit(parse_rule('bank.pay(memo = "x")'), {"pay": schema}) == ""
    assert misfit(parse_rule('bank.*(memo = "x")'), {**BANK, "more": schema}) == ""


def test_a_server_that_was_never_reached_refuses_no_rule() -> None:
    assert misfit(parse_rule('bank.pya(too = "x")'), {}) == ""


def test_what_a_server_calls_its_tools_cannot_write_to_a_terminal() -> None:
    assert "\x1b" not in misfit(parse_rule("bank.pay(too <= 3)"), {"pay": {"properties": {"to\x1b[2J\u202e": {}}}})


def test_a_pack_is_told_what_it_names_that_is_not_there() -> None:
    pack = parse_pack(
        b"""
        [tool.nosuch]
        effect = "read"
        [tool.pay.arguments]
        amount_cent = { role = "number" }
        to = { role = "dest" }
        "/a~1b/*" = { role = "body" }
        [flow]
        bank = ["mial.send", "bank"]
        "." = ["."]
        """,
        name="bank",
        file="bank.toml",
    )

    assert list(pack_problems(pack, BANK, ("bank", "mail"))) == [
        "tool.nosuch: the server has no such tool; there are 'balance', 'pay'",
        "tool.pay.arguments: the tool has no argument 'amount_cent'; did you mean 'amount_cents'?",
        "flow.bank: no server is configured for 'mial.send'",
    ]
    assert list(pack_problems(pack, {}, ("bank", "mial"))) == []


def test_currencies_are_those_of_iso_4217() -> None:
    assert (DECIMALS["EUR"], DECIMALS["JPY"], DECIMALS["KWD"]) == (2, 0, 3)
    assert not {"XXX", "XTS", "XAU", "EUX"} & DECIMALS.keys()
    assert all(len(code) == 3 and code.isupper() and code.isalpha() for code in DECIMALS)
