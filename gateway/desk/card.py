"""The card: everything a person is shown of a call before deciding, as one JSON document.

Built by code from the case alone. Whatever came from an agent or a server stands in it as a value to be shown inert;
the headline uses the operator's names only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.stages.evidence import argument_document, reason_document
from policies.case import Case
from policies.grant import Op, Rule
from policies.rules import str_rule

_RISK = {"destructive": "destroys", "spend": "spends money", "write": "changes something", "read": "reads"}


def card_of(case: Case, trace: Sequence[Mapping[str, Any]], *, text: str, budgets: Mapping[str, int]) -> dict[str, Any]:
    """What is asked, with each argument's value, proof and origin, and how it differs from what was granted."""
    action = case.action
    rules = [case.seen.grant.rules[index] for index in case.rules]
    return {
        "headline": f"{action.subject.agent} asks to call {action.server}.{action.name}, which {_RISK[case.tool.effect]}",
        "server": action.server,
        "tool": action.name,
        "effect": case.tool.effect,
        "task": action.subject.task,
        "task_text": text,
        "agent": action.subject.agent,
        "principal": action.subject.principal,
        "action": action.id,
        "arguments": [
            {
                **argument_document(argument),
                "form": argument.spec.form,
                "granted": _granted(rules, argument.path),
                "origins": [found for found in trace if found.get("argument") == argument.path],
            }
            for argument in case.arguments
        ],
        "asks": [reason_document(reason) for reason in sorted(case.verdict.asks)],
        "rules": [str_rule(rule) for rule in rules],
        "spends": list(case.spends) if case.spends else None,
        "budgets": dict(budgets),
        "mark": {"integrity": case.seen.mark.integrity.name, "classes": sorted(case.seen.mark.classes)},
        "policy": case.policy,
    }


def _granted(rules: Sequence[Rule], path: str) -> list[str]:
    """What the satisfied rules say of one argument, in the grant's own grammar."""
    name = path.removeprefix("/")
    said = []
    for rule in rules:
        for constraint in rule.constraints:
            if constraint.argument in (name, path):
                values = list(constraint.values) if constraint.op is Op.IN else constraint.values[0]
                said.append(f"{constraint.op} {values}")
    return said
