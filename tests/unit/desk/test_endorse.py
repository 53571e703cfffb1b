"""What a yes for the whole task is good for."""

from typing import Any

import pytest

from gateway.desk.endorse import asked_classes, asked_values, endorsed_by
from gateway.stores.tickets import Ticket
from policies.label import Integrity, Label

X, Y = "x@example.org", "y@example.org"
IBAN = "DE89370400440532013000"


def argument(path: str, value: Any, role: str = "dest", form: str = "email", proof: str = "") -> dict[str, Any]:
    return {"path": path, "value": value, "role": role, "form": form, "proof": proof}


def unproven(
    path: str, detail: str = "dest: nothing granted, trusted or approved supplies this value"
) -> dict[str, str]:
    return {"code": "unproven", "detail": detail, "path": path}


def flow(name: str) -> dict[str, str]:
    return {"code": "flow_refused", "detail": name, "path": ""}


def ticket(*arguments: dict[str, Any], asks: list[dict[str, str]], carries: frozenset[str] = frozenset()) -> Ticket:
    card = {"server": "mail", "tool": "send", "arguments": list(arguments), "asks": asks}
    label = Label(integrity=Integrity.UNTRUSTED, classes=carries)
    return Ticket(
        id="apr_1", task="task_a", call_digest="d", authority="a", card=card, label=label, created=0.0, expires=1.0
    )


@pytest.mark.promise("endorses-exactly")
def test_only_what_was_asked_about_is_endorsed() -> None:
    card = ticket(
        argument("/to", X),
        argument("/cc/0", Y, proof="grant:0"),
        argument("/mode", "fast", role="control", form="text"),
        argument("/body", "hello", role="body", form="text"),
        asks=[unproven("/to"), flow("passport"), {"code": "policy_refused", "detail": "spend: it spends", "path": ""}],
    ).card

    assert asked_values(card) == [("/to", "email", X)]
    assert asked_classes(card) == ["passport"]


def test_a_value_whose_proof_was_too_weak_is_endorsed_since_it_was_asked_about() -> None:
    asked = argument("/to", IBAN, form="iban", proof="result")

    assert asked_values(ticket(asked, asks=[unproven("/to")]).card) == [("/to", "iban", IBAN)]


def test_a_value_that_cannot_be_compared_safely_is_never_endorsed() -> None:
    asked = argument("/to", "x\u200b@example.org")

    assert asked_values(ticket(asked, asks=[unproven("/to")]).card) == []


@pytest.mark.promise("endorses-exactly")
def test_of_a_body_exactly_the_links_and_accounts_that_the_card_names_are_endorsed() -> None:
    body = f"See https://a.example/1 and https://b.example/2, pay {IBAN}."
    asks = [
        unproven("/body", "body: unproven url https://a.example/1"),
        unproven("/body", f"body: unproven iban {IBAN}"),
    ]

    found = asked_values(ticket(argument("/body", body, role="body", form="text"), asks=asks).card)

    assert found == [("/body", "url", "https://a.example/1"), ("/body", "iban", IBAN)]


@pytest.mark.promise("no-recombined-endorsement")
def test_approving_x_for_a_harmless_mail_does_not_endorse_x_for_the_passport() -> None:
    passport_home = [("mail.send", "flow", "", "passport")]
    harmless = ticket(argument("/to", X), asks=[unproven("/to")])

    assert endorsed_by(harmless, passport_home) == []
    assert endorsed_by(harmless, [("bank.pay", "flow", "", "passport")]) == [("/to", "email", X)]


@pytest.mark.promise("no-recombined-endorsement")
def test_approving_the_passport_for_home_does_not_endorse_it_for_an_earlier_x() -> None:
    earlier = [("mail.send", "/to", "email", X)]
    home = ticket(argument("/to", Y, proof="grant:0"), asks=[flow("passport")], carries=frozenset({"passport"}))

    assert endorsed_by(home, earlier) == []
    assert endorsed_by(home, []) == [("flow", "", "passport")]


def test_what_was_seen_together_is_endorsed_together() -> None:
    both = ticket(argument("/to", X), asks=[unproven("/to"), flow("passport")], carries=frozenset({"passport"}))

    rows = endorsed_by(both, [])
    assert rows == [("/to", "email", X), ("flow", "", "passport")]
    again = [("mail.send", *row) for row in rows]
    more = ticket(argument("/to", X, proof="endorsed"), asks=[flow("bank")], carries=frozenset({"passport", "bank"}))
    assert endorsed_by(more, again) == [("flow", "", "bank")]
