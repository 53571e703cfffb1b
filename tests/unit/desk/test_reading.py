"""The card, and the sentences in which it is read."""

from typing import Any

import pytest
from support.world import IBAN, PAY, World, unattended

from gateway.desk import reading
from gateway.desk.money import spelled
from gateway.stores import tickets


@pytest.mark.parametrize(
    ("currency", "units", "said"),
    [
        ("EUR", 41250, "412.50 EUR"),
        ("EUR", 5, "0.05 EUR"),
        ("JPY", 1200, "1 200 JPY"),
        ("KWD", -1234, "-1.234 KWD"),
    ],
)
def test_money_is_spelled_in_the_currencys_own_unit(currency: str, units: int, said: str) -> None:
    assert spelled(currency, units) == said


async def card() -> dict[str, Any]:
    bank = World()
    await unattended(bank, bank.pinned())
    answer = await unattended(bank, bank.call("pay", {**PAY, "memo": "rent"}, "act_1"))
    found = tickets.load(bank.db, answer.ticket)
    assert found is not None
    return found.card


@pytest.mark.promise("card-tells")
async def test_a_card_says_the_risk_first_then_how_each_argument_stands_against_the_grant() -> None:
    shown = await card()

    assert shown["headline"] == "agt_a wants to spend 1.00 EUR with bank.pay"
    by_path = {argument["path"]: argument for argument in shown["arguments"]}
    assert reading.standing(shown, by_path["/to"]) == ("proven", "the grant names this value")
    assert by_path["/to"]["granted"] == [f'= "{IBAN}"']
    assert reading.standing(shown, by_path["/amount_cents"]) == ("free", "chosen by the agent, within the grant")
    assert reading.standing(shown, by_path["/memo"]) == ("free", "the agent's words")
    assert reading.why(shown) == ["A rule asks: this call spends money."]
    assert reading.budgets(shown) == ["10 calls left", "10.00 EUR left, 9.00 EUR after this"]


def test_the_field_itself_is_named_rather_than_the_text_that_repeats_it() -> None:
    def found(action: str, path: str) -> dict[str, str]:
        return {"action": action, "server": "flights", "tool": "search", "path": path, "how": "part", "snippet": "s"}

    argument = {
        "origins": [
            found("a", "/content/0/text"),
            found("a", "/structuredContent/notes"),
            found("b", "/content/0/text"),
        ]
    }

    places = reading.places(argument)

    assert [(one["action"], one["path"]) for one in places] == [
        ("a", "/structuredContent/notes"),
        ("b", "/content/0/text"),
    ]
    assert reading.place(places[0]) == "Read in a result of flights.search, at notes:"


def test_every_ground_is_a_sentence() -> None:
    card = {
        "server": "mail",
        "tool": "send",
        "asks": [
            {"code": "policy_refused", "detail": "spend: this call spends money", "path": ""},
            {"code": "unproven", "detail": "dest: left out, so the server would choose", "path": "/to"},
            {"code": "unproven", "detail": "body: unproven url https://a.example/", "path": "/body"},
            {"code": "flow_refused", "detail": "passport", "path": ""},
        ],
    }

    assert reading.why(card) == [
        "It may carry data of the class “passport”, which nobody declared for mail.send.",
        "to (where it goes): left out, so the server would choose.",
        "body holds a link that nobody supplied: https://a.example/",
        "A rule asks: this call spends money.",
    ]
