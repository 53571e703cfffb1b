"""What a yes for the whole task is good for: exactly the values and classes of data that were asked about, and no more.

Approving x for a harmless mail must not approve x for the passport. So a value and a class of data are never both
endorsed for a tool unless some person saw the two together; where they were not, the yes counts once.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from gateway.stores.tickets import Ticket
from policies.bodies import found_in
from policies.forms import canonical_form
from policies.pack import Form, Role
from policies.verdict import Code

Row: TypeAlias = tuple[str, str, str]
"""(path, form, canonical value); of a class of data: ("flow", "", class)."""
FLOW = "flow"


def endorsed_by(ticket: Ticket, before: Iterable[tuple[str, str, str, str]]) -> list[Row]:
    """The rows that a yes for the task adds to those of `before` (tool first)."""
    standing = {tuple(row) for tool, *row in before if tool == ticket.tool}
    classes = {value for path, _, value in standing if path == FLOW}
    values = {row for row in standing if row[0] != FLOW}
    rows = asked_values(ticket.card) if classes <= ticket.label.classes else []
    if values <= _held(ticket.card):
        rows = [*rows, *((FLOW, "", name) for name in asked_classes(ticket.card))]
    return [row for row in rows if row not in standing]


def asked_values(card: Mapping[str, Any]) -> list[Row]:
    """Each authority argument that nothing proved, and each link, address or account in a body that nobody supplied."""
    unproven = {ask["path"] for ask in card["asks"] if ask["code"] == Code.UNPROVEN}
    rows: list[Row] = []
    for argument in card["arguments"]:
        path, value = argument["path"], argument["value"]
        if path not in unproven:
            continue
        if Role(argument["role"]).is_authority:
            rows.extend(_row(path, Form(argument["form"]), value))
        elif isinstance(value, str):
            rows.extend(_findings(card, path, value))
    return rows


def asked_classes(card: Mapping[str, Any]) -> list[str]:
    """Each class of data that was asked about."""
    return [ask["detail"] for ask in card["asks"] if ask["code"] == Code.FLOW_REFUSED]


def _row(path: str, form: Form, value: Any) -> list[Row]:
    canonical = canonical_form(form, value)
    return [] if canonical is None else [(path, form.value, canonical)]


def _findings(card: Mapping[str, Any], path: str, value: str) -> list[Row]:
    """Those that the card names one by one."""
    named = {ask["detail"] for ask in card["asks"] if ask["path"] == path}
    return list(
        dict.fromkeys(
            (path, form.value, canonical)
            for form, canonical, written in found_in(value)
            if canonical and f"body: unproven {form} {written[:200]}" in named
        )
    )


def _held(card: Mapping[str, Any]) -> set[Row]:
    """Every value that this call holds where an endorsement could name it."""
    rows: set[Row] = set()
    for argument in card["arguments"]:
        path, value = argument["path"], argument["value"]
        rows.update(_row(path, Form(argument["form"]), value))
        if argument["role"] == Role.BODY and isinstance(value, str):
            rows.update((path, form.value, canonical) for form, canonical, _ in found_in(value) if canonical)
    return rows
