"""A grant as JSON: how a task's row keeps it."""

import json
from typing import Any

from policies.grant import Constraint, Grant, Op, Rule
from policies.jsonvalue import canonical
from policies.rules import check_rule


def encode_grant(grant: Grant) -> str:
    """Canonical JSON: equal grants give equal text."""
    return canonical(
        {
            "rules": [
                [rule.server, rule.tool, [[c.argument, c.op.value, list(c.values)] for c in rule.constraints]]
                for rule in grant.rules
            ],
            "calls": grant.calls,
            "spend": dict(grant.spend),
            "tokens": grant.tokens,
            "bits": grant.bits,
            "expires": grant.expires,
        }
    ).decode()


def decode_grant(text: str) -> Grant:
    """The grant that `encode_grant` wrote.

    Raises:
        ValueError: it did not write this.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        rules = tuple(
            Rule(server, tool, tuple(Constraint(name, Op(op), tuple(values)) for name, op, values in constraints))
            for server, tool, constraints in found["rules"]
        )
        grant = Grant(
            rules=rules,
            calls=found["calls"],
            spend=found["spend"],
            tokens=found.get("tokens"),  # rows from before there was a model have neither
            bits=found.get("bits"),
            expires=found["expires"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a grant: {error}") from error
    for rule in grant.rules:
        check_rule(rule)
    return grant
