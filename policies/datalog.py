"""A grant and a call as Datalog. Names and values are bound parameters; only numbers of ours enter the source text."""

from collections.abc import Iterator, Mapping, Sequence

from biscuit_auth import Fact

from policies.grant import Constraint, Op, Rule, Scalar
from policies.rules import CLIMBS, argument_path

_PREDICATE = {str: "texts", int: "ints", bool: "flags"}


def grant_rules(rules: Sequence[Rule]) -> tuple[str, dict[str, object]]:
    """`allowed(index) <- ...` for each rule, and the parameters of all."""
    source: list[str] = []
    parameters: dict[str, object] = {}
    for index, rule in enumerate(rules):
        name = f"r{index}"
        parameters[f"{name}server"] = rule.server
        tool = "$tool"
        if rule.tool != "*":
            tool, parameters[f"{name}tool"] = f"{{{name}tool}}", rule.tool
        body = [f"call({{{name}server}}, {tool})"]
        for place, constraint in enumerate(rule.constraints):
            body.append(_bounded(constraint, f"{name}c{place}", parameters))
        source.append(f"allowed({index}) <- {', '.join(body)};")
    return "".join(source), parameters


def call_facts(values: Mapping[str, tuple[Scalar, ...]]) -> Iterator[Fact]:
    """The typed argument facts of a call, one by one (many parameters of one source cost their square).

    Elements are bound singly, because the library takes a list of numbers for bytes.
    """
    for path, found in values.items():
        elements: dict[str, object] = {f"v{index}": value for index, value in enumerate(found)}
        source = f"{_PREDICATE[type(found[0])]}({{path}}, [{', '.join(f'{{{name}}}' for name in elements)}])"
        yield Fact(source, elements | {"path": path})


def _bounded(constraint: Constraint, name: str, parameters: dict[str, object]) -> str:
    """One constraint over every element of its argument."""
    values = constraint.values
    parameters[f"{name}path"] = argument_path(constraint)
    match constraint.op:
        case Op.IN:
            parameters[name] = set(values)
            holds = f"{{{name}}}.contains($x)"
        case Op.EQUALS:
            parameters[name] = values[0]
            holds = f"$x === {{{name}}}"
        case Op.AT_MOST | Op.AT_LEAST:
            parameters[name] = values[0]
            holds = f"$x {constraint.op.value} {{{name}}}"
        case Op.STARTS_WITH:
            ways = {f"{name}w{index}": way for index, way in enumerate(CLIMBS)}
            parameters |= ways | {name: values[0]}
            holds = f"$x.starts_with({{{name}}})" + "".join(f" && !$x.contains({{{way}}})" for way in ways)
    predicate = _PREDICATE[type(values[0])]
    return f"{predicate}({{{name}path}}, ${name}), ${name}.all($x -> {holds})"
