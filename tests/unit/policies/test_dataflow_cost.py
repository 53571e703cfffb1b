"""What data flow costs: flat in what is remembered, linear in what is new. Run as a program it prints the figures."""

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from support.proofs import learn

from policies.action import Action, Kind, Subject
from policies.case import Case, Snapshot
from policies.dataflow import consider
from policies.grant import Constraint, Grant, Op, Rule
from policies.label import CLEAN
from policies.packs import load_pack
from policies.proofs import ProofIndex

IBAN = "DE89370400440532013000"
CALENDAR, BANK = load_pack("calendar"), load_pack("bank")
SUBJECT = Subject(principal="p", agent="a", task="t", holder="a", root="r", token="r")


def events(first: int, count: int) -> dict[str, Any]:
    body = {"events": [{"id": f"ev-{number}", "title": "x"} for number in range(first, first + count)]}
    return {"structuredContent": body, "content": [{"type": "text", "text": json.dumps(body)}]}


def remembering(count: int) -> ProofIndex:
    index = ProofIndex()
    learn(
        index,
        {"structuredContent": {"payees": [{"name": "M", "iban": IBAN}]}},
        BANK.tool("list_payees"),
        "bank",
        "l",
        "a",
    )
    for first in range(0, count, 1000):
        learn(
            index, events(first, min(1000, count - first)), CALENDAR.tool("list_events"), "calendar", "list_events", "a"
        )
    return index


def payment(proofs: ProofIndex) -> Case:
    arguments = {"to": IBAN, "amount_cents": 100, "currency": "EUR", "memo": "Booking 7F"}
    rule = Rule(
        "bank", "pay", (Constraint("currency", Op.IN, ("EUR",)), Constraint("amount_cents", Op.AT_MOST, (800,)))
    )
    seen = Snapshot(
        now=0.0,
        task="t",
        task_version=1,
        grant=Grant(rules=(rule,)),
        revoked=False,
        mark=CLEAN,
        proofs=proofs,
        pack=BANK,
        flow=BANK.flow,
        key=b"k",
    )
    action = Action(id="act", kind=Kind.CALL_TOOL, subject=SUBJECT, server="bank", name="pay", arguments=arguments)
    return Case(action=action, seen=seen, rules=(0,))


def best_us(*runs: Callable[[], object], times: int, rounds: int = 9) -> list[float]:
    """Microseconds for one run of each, taken in turns, each in its least disturbed round."""
    spent = [[_round(run, times) for run in runs] for _ in range(rounds)]
    return [min(column) / times * 1e6 for column in zip(*spent, strict=True)]


def _round(run: Callable[[], object], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        run()
    return perf_counter() - start


def learning(index: ProofIndex) -> Callable[[], object]:
    new = events(50_000, 100)
    return lambda: learn(index, new, CALENDAR.tool("list_events"), "calendar", "list_events", "b")


@pytest.mark.promise("label-check-is-flat")
def test_a_label_check_costs_the_same_however_much_is_remembered() -> None:
    few, many = payment(remembering(10)), payment(remembering(10_000))
    assert consider(many).verdict == consider(few).verdict
    little, much = best_us(lambda: consider(few), lambda: consider(many), times=50)
    assert much < 2 * little


def test_learning_costs_what_is_new_and_not_what_is_known() -> None:
    little, much = best_us(learning(remembering(10)), learning(remembering(10_000)), times=1)
    assert much < 3 * little


if __name__ == "__main__":
    cases = [payment(remembering(count)) for count in (10, 10_000)]
    checks = best_us(*(lambda case=case: consider(case) for case in cases), times=1000)
    learns = best_us(*(learning(remembering(count)) for count in (10, 10_000)), times=10)
    for count, check, learn in zip((10, 10_000), checks, learns, strict=True):
        print(f"{count:>6} remembered: label check {check:.1f} us, learning 100 events {learn:.1f} us")
