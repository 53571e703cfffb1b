"""Shapes: what a schema declares at each place of the arguments, whichever of its rules say so.

A shape is the set of rules that may apply to one value, closed under references and alternatives (a subset
construction, so that a recursive schema has finitely many). From it: which keys are declared, what may stand below
each, and which defaults are certain. Whether a value is *valid* is the engine's business.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from policies.fold import fold
from policies.jsonvalue import JSON, JSONObject
from policies.schema import Schema, resolve

Rule: TypeAlias = tuple[JSONObject, bool]
"""A rule, and whether it certainly applies (through `$ref` and `allOf` alone): only then do its defaults hold."""
Matches: TypeAlias = Callable[[str, str], bool]
"""Whether a pattern matches a key, in bounded time."""
IsValid: TypeAlias = Callable[[JSONObject, JSON], bool]
"""Whether a value is valid under one rule of the document."""

MAX_SHAPES = 4_096


class TooManyShapes(Exception):
    """The rules combine in more ways than are followed."""


@dataclass(slots=True)
class Shape:
    """One place. `child` and `item` are the only ways down."""

    rules: tuple[Rule, ...]
    free: bool = False
    """Opened in so many words (`additionalProperties: true`): anything may stand here, at any depth."""
    names: frozenset[str] = frozenset()
    """Declared by name."""
    folded: frozenset[str] = frozenset()
    """What a careless reader makes of those."""
    has_twins: bool = False
    """Two declared names are one to a careless reader."""
    defaults: tuple[tuple[str, JSON], ...] = ()
    children: dict[str, "Shape"] = field(default_factory=dict)
    """By declared key."""
    elements: "Shape | None" = None
    """Of an array whose items all have one shape; found on first use."""


class Shapes:
    """The shapes of one schema, made as they are met."""

    def __init__(self, root: JSONObject, matches: Matches, is_valid: IsValid) -> None:
        self._root = root
        self._matches = matches
        self._is_valid = is_valid
        self._made: dict[frozenset[tuple[int, bool]], Shape] = {}
        self.free = Shape((), free=True)
        self.top = self._shape([(root, True)])

    def child(self, shape: Shape, key: str) -> Shape | None:
        """What may stand under `key`; None where no rule declares it.

        Raises:
            TooManyShapes: the schema is not followed so far.
        """
        if shape.free:
            return self.free
        known = shape.children.get(key)
        if known is None:
            known = self._find(shape, key)
            if known is not None and key in shape.names:
                shape.children[key] = known
        return known

    def item(self, shape: Shape, index: int) -> Shape:
        """What may stand at `index` of an array.

        Raises:
            TooManyShapes: the schema is not followed so far.
        """
        if shape.free or shape.elements is not None:
            return shape.elements or self.free
        found: list[tuple[Schema, bool]] = []
        positional = False
        for rule, sure in shape.rules:
            listed = rule["prefixItems"] if "prefixItems" in rule else rule.get("items")
            rest = ("items" if "prefixItems" in rule else "additionalItems", "unevaluatedItems")
            if isinstance(listed, list):
                positional = True
                if index < len(listed):
                    found.append((listed[index], sure))
                    continue
                found.extend((rule[word], sure) for word in rest if word in rule)
            else:
                found.extend((rule[word], sure) for word in ("items", "unevaluatedItems") if word in rule)
        below = self._shape(_objects_of(found))
        if not positional:
            shape.elements = below
        return below

    def _find(self, shape: Shape, key: str) -> Shape | None:
        found: list[tuple[Schema, bool]] = []
        for rule, sure in shape.rules:
            patterns = [p for p in rule.get("patternProperties", {}) if self._matches(p, key)]
            declared = rule.get("properties", {})
            opened = [rule["patternProperties"][pattern] for pattern in patterns]
            if key in declared:
                found.append((declared[key], sure))
            elif not patterns:
                opened = [rule[word] for word in ("additionalProperties", "unevaluatedProperties") if word in rule]
            if any(schema is True or schema == {} for schema in opened):
                return self.free
            found.extend((schema, sure) for schema in opened if schema is not False)
        return self._shape(_objects_of(found)) if found else None

    def _shape(self, starts: Iterable[Rule]) -> Shape:
        rules = self._close(starts)
        identity = frozenset((id(rule), sure) for rule, sure in rules)
        made = self._made.get(identity)
        if made is None:
            if len(self._made) >= MAX_SHAPES:
                raise TooManyShapes
            made = self._made[identity] = Shape(rules)
            made.names = frozenset(name for rule, _ in rules for name in rule.get("properties", {}))
            made.folded = frozenset(map(fold, made.names))
            made.has_twins = len(made.folded) < len(made.names)
            made.defaults = tuple(self._defaults(rules))
        return made

    def _close(self, starts: Iterable[Rule]) -> tuple[Rule, ...]:
        """The rules that apply to the same value; `not` and `if` only judge, they declare nothing."""
        closed: dict[int, Rule] = {}
        todo = list(starts)
        while todo:
            rule, sure = todo.pop(0)
            known = closed.get(id(rule))
            if known is not None and (known[1] or not sure):
                continue
            closed[id(rule)] = (rule, sure)
            certain: list[Any] = [resolve(self._root, rule["$ref"])] if "$ref" in rule else []
            certain += rule.get("allOf", ())
            perhaps = [branch for word in ("anyOf", "oneOf") for branch in rule.get(word, ())]
            perhaps += [rule[word] for word in ("then", "else") if word in rule]
            perhaps += [b for word in ("dependentSchemas", "dependencies") for b in rule.get(word, {}).values()]
            todo += _objects_of([(schema, sure) for schema in certain])
            todo += _objects_of([(schema, False) for schema in perhaps])
        return tuple(closed.values())

    def _defaults(self, rules: tuple[Rule, ...]) -> Iterable[tuple[str, JSON]]:
        """Of each declared key, the default that certainly holds; one that its own rule refuses is not believed."""
        done: set[str] = set()
        for rule, sure in rules:
            for name, schema in rule.get("properties", {}).items() if sure else ():
                if name in done or not isinstance(schema, dict):
                    continue
                stated = (r["default"] for r, certain in self._close([(schema, True)]) if certain and "default" in r)
                for default in stated:
                    done.add(name)
                    if self._is_valid(schema, default):
                        yield name, default
                    break


def _objects_of(schemas: Iterable[tuple[Schema, bool]]) -> list[Rule]:
    """A bare `true` or `false` declares nothing."""
    return [(schema, sure) for schema, sure in schemas if isinstance(schema, dict)]
