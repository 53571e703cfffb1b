"""What a person granted a task: rules over tools and their arguments, budgets, and where each class of data may go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Scalar: TypeAlias = str | int | bool


class Op(StrEnum):
    """How a rule bounds an argument. `EQUALS` and `IN` are slots: they also prove where the value came from."""

    EQUALS = "="
    IN = "in"
    AT_MOST = "<="
    AT_LEAST = ">="
    STARTS_WITH = "startswith"


@dataclass(frozen=True, slots=True)
class Constraint:
    """`argument op values`; one value except for `IN`."""

    argument: str
    op: Op
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """`server.tool(constraints)`; `tool` may be `*`. A call must satisfy one rule whole: parts are not recombined."""

    server: str
    tool: str
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Everything one confirmed task allows."""

    rules: tuple[Rule, ...]
    calls: int | None = None
    """How many calls; None is no bound."""
    spend: Mapping[str, int] = field(default_factory=dict)
    """Currency code to the most that may be spent, in minor units (cents)."""
    tokens: int | None = None
    """How many tokens of the model, prompts included; None: none at all."""
    bits: int | None = None
    """How many bits may rise out of hostile text by typed extraction; None: none at all."""
    expires: float | None = None
    """Unix seconds."""
