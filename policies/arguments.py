"""Arguments against a tool's input schema: bounded, declared at every depth, in one spelling, defaults filled in.

What is refused here closes differences between readers: a key that no rule declares (unless the schema opens
`additionalProperties` or `patternProperties` in so many words), keys that a careless reader would take for one another,
integers that a double cannot hold, lone surrogates. What remains is spelled one way (`1.0` is `1`), so that equal
actions are equal bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import jsonschema_rs

from policies import schema as bounds
from policies.fold import fold
from policies.jsonvalue import JSON, JSONObject, pointer
from policies.shape import Shape, Shapes, TooManyShapes

MAX_DEPTH = 32
MAX_NODES = 1_000
"""Values in one call's arguments, at every depth: each is labelled, may be asked about, and stands in the log."""
MAX_SAFE_INTEGER = 2**53 - 1
MAX_PROBLEMS = 8
_BACKTRACKS = 10_000
_REGEX_BYTES = 1_000_000
"""What one pattern may become."""
_ALL_REGEX_BYTES = 2_500_000
"""What all of one schema may: an engine compiles them in one breath, and the whole process waits meanwhile."""
MAX_DEFAULTS_WEIGHT = 20_000
"""Rules that stand behind all defaults together: each default is held against its own."""
_URN = "urn:pratique:schema"
"""What the schema is called where a part of it is used alone."""

Path: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a schema cannot be used."""

    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the arguments; the sentence never quotes a value."""

    path: str
    """JSON pointer."""
    message: str


@dataclass(frozen=True, slots=True)
class Filled:
    """Arguments that may be used, in their one spelling."""

    arguments: JSONObject
    defaults: frozenset[str] = frozenset()
    """Pointers of everything that the agent did not send: each filled value, and what it contains."""


def compile_schema(schema: JSON) -> "Checker | Refused":
    """A checker for a tool's `inputSchema`, or why there is none."""
    try:
        is_metered = bounds.check(schema)
        return Checker(schema, is_metered)
    except bounds.SchemaError as error:
        return Refused(str(error))
    except TooManyShapes:
        return Refused("its alternatives combine in too many ways")
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return Refused(str(error).partition("\n")[0][:300])


class Checker:
    """Checks and fills arguments. Holds no state of a call; made once for each definition's digest."""

    def __init__(self, schema: JSONObject, is_metered: bool) -> None:
        self._schema = schema
        self._is_metered = is_metered
        self._patterns: dict[str, Any] = {}
        self._registry: Any = None
        self._believed: dict[int, bool] = {}
        self._weight = 0
        self._weigh = bounds.Walk(schema, below=True)
        self._places = {id(rule): place for place, rule in _places(schema)}
        self._regex_bytes = min(_REGEX_BYTES, _ALL_REGEX_BYTES // max(1, len(bounds.patterns(schema))))
        self._engine = _compiled(schema, self._regex_bytes)
        self._shapes = Shapes(schema, self._matches, self._is_valid)

    def fill(self, arguments: JSONObject) -> Filled | tuple[Problem, ...]:
        """The arguments with defaults filled in and every value in its one spelling, or what is wrong with them."""
        pass_ = _Pass(self._shapes)
        try:
            filled = pass_.object(arguments, self._shapes.top, (), is_default=False)
        except _Wrong as wrong:
            return (wrong.problem,)
        except TooManyShapes:
            return (Problem("", "the schema combines in too many ways for these arguments"),)
        if self._is_metered and bounds.cost(self._schema, filled) > bounds.MAX_COST:
            return (Problem("", "the schema cannot be applied to these arguments in bounded time"),)
        if _guarded(lambda: self._engine.is_valid(filled)):
            return Filled(filled, frozenset(pass_.defaults))
        errors = _guarded(lambda: list(islice(self._engine.iter_errors(filled), MAX_PROBLEMS)))
        return tuple(Problem(pointer(*error.instance_path), error.message[:300]) for error in errors)

    def _matches(self, pattern: str, key: str) -> bool:
        engine = self._patterns.get(pattern)
        if engine is None:
            engine = self._patterns[pattern] = _compiled({"pattern": pattern}, self._regex_bytes)
        return bool(_guarded(lambda: engine.is_valid(key)))

    def _is_valid(self, rule: JSONObject, value: JSON) -> bool:
        """Whether a rule's own default is; the rules behind all of them are counted.

        Raises:
            TooManyShapes: they are too many.
        """
        known = self._believed.get(id(rule))
        if known is None:
            self._weight += self._weigh.run([rule])
            if self._weight > MAX_DEFAULTS_WEIGHT:
                raise TooManyShapes
            known = self._believed[id(rule)] = self._alone(rule, value)
        return known

    def _alone(self, rule: JSONObject, value: JSON) -> bool:
        """By this rule's own engine: a map of the whole schema's parts compiles what nests once for each level."""
        if self._registry is None:
            self._registry = _guarded(lambda: jsonschema_rs.Registry([(_URN, self._schema)]))
        dialect = {"$schema": self._schema["$schema"]} if "$schema" in self._schema else {}
        alone = {**dialect, "$ref": _URN + self._places[id(rule)]}
        part = _compiled(alone, self._regex_bytes, registry=self._registry)
        return bool(_guarded(lambda: part.is_valid(value)))


class _Wrong(Exception):
    def __init__(self, path: Path, message: str) -> None:
        self.problem = Problem(pointer(*path), message)


class _Pass:
    """One walk over one call's arguments."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._nodes = 0
        self.defaults: list[str] = []

    def object(self, value: JSONObject, shape: Shape, path: Path, *, is_default: bool) -> JSONObject:
        self._enter(len(value), path)
        filled: JSONObject = {}
        undeclared = [key for key in value if key not in shape.names]
        if undeclared or shape.has_twins:
            self._tell_apart(value, undeclared, shape, path)
        for key, item in value.items():
            below = self._shapes.child(shape, key)
            if below is None:
                raise _Wrong((*path, key), "not declared by the tool's schema")
            filled[key] = self._any(item, below, path, key, is_default)
        for key, default in shape.defaults:
            if key not in filled:
                below = self._shapes.child(shape, key) or self._shapes.free
                filled[key] = self._any(default, below, path, key, is_default=True)
        return filled

    def _any(self, value: JSON, shape: Shape, path: Path, key: str | int, is_default: bool) -> JSON:
        if is_default:
            self.defaults.append(pointer(*path, key))
        kind = type(value)
        if kind is str:
            if not value.isascii() and not _is_unicode(value):
                raise _Wrong((*path, key), "holds a lone surrogate")
            return value
        if kind is int or kind is float:
            return _number(value, path, key)
        if value is None or kind is bool:
            return value
        if kind is dict:
            return self.object(value, shape, (*path, key), is_default=is_default)
        if kind is list:
            return self._list(value, shape, (*path, key), is_default)
        raise _Wrong((*path, key), "not a JSON value")

    def _list(self, value: list[JSON], shape: Shape, path: Path, is_default: bool) -> list[JSON]:
        self._enter(len(value), path)
        item = self._shapes.item
        return [self._any(each, item(shape, at), path, at, is_default) for at, each in enumerate(value)]

    def _enter(self, size: int, path: Path) -> None:
        self._nodes += size
        if len(path) >= MAX_DEPTH:
            raise _Wrong(path, f"nested deeper than {MAX_DEPTH}")
        if self._nodes > MAX_NODES:
            raise _Wrong(path, f"more than {MAX_NODES:,} values")

    def _tell_apart(self, value: JSONObject, undeclared: list[str], shape: Shape, path: Path) -> None:
        """Keys that one reader tells apart and another does not are refused, the declared and absent ones included."""
        seen: set[str] = set()
        for key in value:
            if not _is_unicode(key) or "\0" in key:
                raise _Wrong(path, "a key holds NUL or a lone surrogate")
            folded = fold(key)
            if folded in seen or (key in undeclared and folded in shape.folded):
                raise _Wrong((*path, key), "differs from another key by case or compatible characters only")
            seen.add(folded)


def _number(value: float, path: Path, key: str | int) -> int | float:
    """Integers within 2^53, and integral floats as the integer they are."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Wrong((*path, key), "not a finite number")
        if not value.is_integer():
            return value
        value = int(value)
    if abs(value) > MAX_SAFE_INTEGER:
        raise _Wrong((*path, key), "an integer beyond 2^53")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_OPTIONS: dict[str, Any] = {"offline": True, "validate_formats": False, "mask": "the value"}


def _compiled(schema: JSONObject, regex_bytes: int, **more: Any) -> Any:
    """Patterns run on the linear engine; those that it cannot express, on one whose backtracking is bounded."""
    make, size = jsonschema_rs.validator_for, {"size_limit": regex_bytes, "dfa_size_limit": regex_bytes}
    try:
        linear = jsonschema_rs.RegexOptions(**size)
        return _guarded(lambda: make(schema, pattern_options=linear, **_OPTIONS, **more))
    except jsonschema_rs.ValidationError:
        fancy = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS, **size)
        return _guarded(lambda: make(schema, pattern_options=fancy, **_OPTIONS, **more))


def _guarded(run: Callable[[], T]) -> T:
    """A Rust panic is a BaseException: here it becomes one of ours, so that whoever decides can say no."""
    try:
        return run()
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ValueError("the schema engine failed") from error
        raise


def _places(schema: JSONObject) -> list[tuple[str, JSONObject]]:
    """Every object of the document with its URI fragment."""
    places: list[tuple[str, JSONObject]] = []
    todo: list[tuple[Path, JSON]] = [((), schema)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, dict):
            places.append(("#" + pointer(*path), node))
            todo.extend(((*path, key), child) for key, child in node.items())
        elif isinstance(node, list):
            todo.extend(((*path, at), child) for at, child in enumerate(node))
    return places
