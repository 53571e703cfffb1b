"""The card: everything a person is shown of a call before deciding, as one JSON document.

Built by code from the case alone. Whatever came from an agent or a server stands in it as a value to be shown inert;
the headline uses the operator's names only. `reading.py` says it in sentences.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.desk.money import spelled
from gateway.stages.evidence import argument_document, reason_document
from policies.case import Argument, Case
from policies.grant import Constraint, Rule
from policies.rules import argument_path, str_rule

_RISK = {
    "destructive": "wants to destroy something",
    "spend": "wants to spend money",
    "write": "wants to change something",
}


def card_of(case: Case, trace: Sequence[Mapping[str, Any]], *, text: str, budgets: Mapping[str, int]) -> dict[str, Any]:
    """What is asked, with each argument's value, proof and origin, and how it differs from what was granted."""
    action, definition = case.action, case.seen.definition
    rules = [case.seen.grant.rules[index] for index in case.rules]
    return {
        "headline": _headline(case),
        "server": action.server,
        "tool": action.name,
        "effect": case.tool.effect,
        "task": action.subject.task,
        "task_text": text,
        "agent": action.subject.agent,
        "principal": action.subject.principal,
        "action": action.id,
        "chain": list(action.subject.chain),
        "definition": definition.digest if definition else "",
        "arguments": [_argument(case, argument, rules, trace) for argument in case.arguments],
        "asks": [reason_document(reason) for reason in sorted(case.verdict.asks)],
        "rules": [str_rule(rule) for rule in rules],
        "spends": list(case.spends) if case.spends else None,
        "budgets": dict(budgets),
        "mark": {"integrity": case.seen.mark.integrity.name, "classes": sorted(case.seen.mark.classes)},
        "carries": sorted(case.label.classes),
        "policy": case.policy,
    }


def _headline(case: Case) -> str:
    """Who wants what, the risk first; nothing here is the server's or the agent's own word but the tool's bare name."""
    action = case.action
    wants = f"wants to spend {spelled(*case.spends)}" if case.spends else _RISK.get(case.tool.effect, "wants to read")
    return f"{action.subject.agent} {wants} with {action.server}.{action.name}"


def _argument(
    case: Case, argument: Argument, rules: Sequence[Rule], trace: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        **argument_document(argument),
        "value": argument.value,
        "form": argument.spec.form,
        "defaulted": argument.path in case.defaulted,
        "granted": [_said(constraint) for constraint in _bounds(rules, argument.path)],
        "origins": [found for found in trace if found.get("argument") == argument.path],
    }


def _bounds(rules: Sequence[Rule], path: str) -> list[Constraint]:
    """What the satisfied rules say of one argument."""
    return [bound for rule in rules for bound in rule.constraints if argument_path(bound) in (path, _top(path))]


def _top(path: str) -> str:
    """The pointer of the top-level argument that a leaf stands in."""
    return "/" + path.split("/")[1]


def _said(bound: Constraint) -> str:
    """One bound in the grant's own grammar, less the argument's name."""
    return str_rule(Rule("s", "t", (Constraint("x", bound.op, bound.values),))).removeprefix("s.t(x ").removesuffix(")")
