"""The input document: what a policy sees of a case.

It is abstract: paths, roles and labels, but no argument's value, so that equal situations give equal documents and a
decision can be remembered. A bundle that declares `# pratique: values` gets the values too.
"""

from typing import Final, TypeAlias

from policies.case import Argument, Case
from policies.jsonvalue import JSONObject
from policies.label import Integrity, Label

Shape: TypeAlias = "dict[str, Shape] | list[Shape] | None"
"""An object's fields, a list's elements, or a leaf. `ANY` is whatever it is."""

_INTEGRITY: Final = {level: level.name.lower() for level in Integrity}
ANY: Final[dict[str, Shape]] = {}

_LABEL: dict[str, Shape] = {"integrity": None, "classes": [None], "readers": [None]}
_ARGUMENT: dict[str, Shape] = {
    "path": None,
    "role": None,
    "form": None,
    "authority": None,
    "integrity": None,
    "classes": [None],
    "proven": None,
    "proof": None,
}


def shape(*, values: bool) -> dict[str, Shape]:
    """Every path that `document` gives: what a policy may read."""
    return {
        "agent": None,
        "principal": None,
        "kind": None,
        "server": None,
        "tool": None,
        "effect": None,
        "pure": None,
        "idempotent": None,
        "arguments": [_ARGUMENT | {"value": ANY} if values else _ARGUMENT],
        "mark": _LABEL,
        "carries": _LABEL,
        "rules": None,
        "spends": {"currency": None, "amount": None},
        "without": [None],
    }


def document(case: Case, *, without: frozenset[str] = frozenset(), values: bool = False) -> JSONObject:
    """What the policy is asked about this case. `without`: kernel rules that are switched off."""
    action, spends = case.action, case.spends
    return {
        "agent": action.subject.agent,
        "principal": action.subject.principal,
        "kind": str(action.kind),
        "server": action.server,
        "tool": action.name,
        "effect": str(case.tool.effect),
        "pure": case.tool.pure,
        "idempotent": case.tool.idempotent,
        "arguments": [_argument(argument, values=values) for argument in case.arguments],
        "mark": _label(case.seen.mark),
        "carries": _label(case.label),
        "rules": len(case.rules),
        "spends": {"currency": spends[0], "amount": spends[1]} if spends else None,
        "without": sorted(without),
    }


def _argument(argument: Argument, *, values: bool) -> JSONObject:
    spec, label = argument.spec, argument.label
    abstract: JSONObject = {
        "path": argument.path,
        "role": str(spec.role),
        "form": str(spec.form),
        "authority": spec.role.is_authority,
        "integrity": _INTEGRITY[label.integrity],
        "classes": sorted(label.classes),
        "proven": bool(argument.proof),
        "proof": argument.proof.partition(":")[0],
    }
    if values:
        abstract["value"] = argument.value
    return abstract


def _label(label: Label) -> JSONObject:
    return {
        "integrity": _INTEGRITY[label.integrity],
        "classes": sorted(label.classes),
        "readers": None if label.readers is None else sorted(label.readers),
    }
