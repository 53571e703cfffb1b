"""Bounds on a JSON Schema that somebody else wrote, before any engine sees it.

A schema is a program that runs on every call. So: a size, a depth, local references only, no name that moves what a
reference means, no rule that leads back to itself without consuming an argument, and a bound on how many rules one
value can meet. A schema that recurses through the arguments is taken, and metered (`cost`).
"""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote

from policies.jsonvalue import JSON, JSONObject, canonical

Schema: TypeAlias = dict[str, Any] | bool

MAX_BYTES = 131_072
MAX_DEPTH = 48
MAX_COMBINATORS = 256
MAX_CHAIN = 32
"""Rules that may apply to one value through one another without consuming it."""
MAX_WEIGHT = 4_000
"""Rules that one pass from the top can meet, counting a shared one each time; a schema beyond it is metered."""
MAX_COST = 50_000
"""Rules that one call's arguments may meet under a metered schema."""
MAX_PATTERNS = 128
MAX_PATTERN_CHARS = 16_384
MAX_SHORTHANDS = 96
MAX_FOLDED = 24
"""Of all patterns together: an engine compiles them in one breath, and the whole process waits meanwhile. What costs
are classes: those such as `\\s` with their square, any of them under `(?i)`. These bounds keep it near 30 ms."""

DIALECTS = frozenset(
    {
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    }
)
"""2020-12 where none is named (MCP 2025-11-25, basic, JSON Schema usage)."""

_SHORTHAND = re.compile(r"\\[sSdDwWpP]")
_CLASS = re.compile(r"\[|\\[sSdDwWpP]")
_FOLDS = re.compile(r"\(\?[a-zA-Z]*i")

_FORBIDDEN = ("$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")
_ONE_HERE = ("not", "if", "then", "else")
_LIST_HERE = ("allOf", "anyOf", "oneOf")
_MAP_HERE = ("dependentSchemas", "dependencies")
_ONE_BELOW = (
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
)
_LIST_BELOW = ("prefixItems", "items")
_MAP_BELOW = ("properties", "patternProperties")
_DEFINITIONS = ("$defs", "definitions")


class SchemaError(Exception):
    """Why a schema is not taken."""


def check(schema: JSON) -> bool:
    """Whether calls under this schema must be metered.

    Raises:
        SchemaError: it is out of bounds.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise SchemaError('an input schema is an object with "type": "object"')
    if _depth_passes(schema, MAX_DEPTH):
        raise SchemaError(f"it nests deeper than {MAX_DEPTH}")
    if len(canonical(schema)) > MAX_BYTES:
        raise SchemaError(f"it is larger than {MAX_BYTES} bytes")
    if str(schema.get("$schema", "https://json-schema.org/draft/2020-12/schema")).rstrip("#") not in DIALECTS:
        raise SchemaError("its dialect is not known")
    _check_patterns(patterns(schema))
    rules = _rules(schema)
    if sum(len(rule.get(word, ())) for rule in rules for word in _LIST_HERE) > MAX_COMBINATORS:
        raise SchemaError(f"it combines more than {MAX_COMBINATORS} alternatives")
    if Walk(schema, below=False).run(rules) > MAX_CHAIN:
        raise SchemaError("a rule applies to one value through too many others")
    walk = Walk(schema, below=True)
    return walk.run([schema]) > MAX_WEIGHT or walk.recurses


def patterns(schema: JSON) -> frozenset[str]:
    """Whatever may be compiled as a pattern, wherever in the document it stands."""
    found: set[str] = set()
    todo: list[JSON] = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            pattern, keys = node.get("pattern"), node.get("patternProperties")
            found.update(keys if isinstance(keys, dict) else ())
            found.update((pattern,) if isinstance(pattern, str) else ())
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return frozenset(found)


def here(root: JSONObject, node: JSONObject) -> Iterator[Schema]:
    """The schemas that apply to the same value as `node`."""
    if "$ref" in node:
        yield resolve(root, node["$ref"])
    for word in _ONE_HERE:
        if word in node:
            yield node[word]
    for word in _LIST_HERE:
        yield from node.get(word, ())
    for word in _MAP_HERE:
        yield from (value for value in node.get(word, {}).values() if isinstance(value, dict | bool))


def below(node: JSONObject) -> Iterator[Schema]:
    """The schemas that apply to what the value contains."""
    for word in _ONE_BELOW:
        if isinstance(node.get(word), dict | bool):
            yield node[word]
    for word in _LIST_BELOW:
        if isinstance(node.get(word), list):
            yield from node[word]
    for word in _MAP_BELOW:
        yield from node.get(word, {}).values()


def resolve(root: JSONObject, reference: JSON) -> Schema:
    """What a local reference names.

    Raises:
        SchemaError: it is not local, or names nothing.
    """
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaError("a reference leads out of the schema")
    target: JSON = root
    for step in reference.split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict) and key in target:
            target = target[key]
        else:
            raise SchemaError("a reference names nothing")
    if not isinstance(target, dict | bool):
        raise SchemaError("a reference names no schema")
    return target


def cost(root: JSONObject, value: JSON) -> int:
    """How many rules `value` can meet, at worst; counting stops past `MAX_COST`."""
    met, todo = 0, [(root, value)]
    while todo and met <= MAX_COST:
        node, data = todo.pop()
        met += 1
        todo.extend((rule, data) for rule in here(root, node) if isinstance(rule, dict))
        inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
        if inner:
            rules = [rule for rule in below(node) if isinstance(rule, dict)]
            todo.extend((rule, datum) for rule in rules for datum in inner)
    return met


class Walk:
    """One depth-first pass over the rules: their longest chain on one value, or their number with all that is below."""

    def __init__(self, root: JSONObject, *, below: bool) -> None:
        self._root = root
        self._below = below
        self._done: dict[int, int] = {}
        self._open: set[int] = set()
        self.recurses = False

    def run(self, starts: list[JSONObject]) -> int:
        """The largest measure of the starts, capped.

        Raises:
            SchemaError: a rule leads back to itself on the same value.
        """
        return max(self._measure(start) for start in starts)

    def _measure(self, start: JSONObject) -> int:
        stack: list[tuple[JSONObject, Iterator[JSONObject]]] = []
        self._enter(start, stack)
        while stack:
            node, edges = stack[-1]
            for target in edges:
                if id(target) in self._open:
                    self._meets_itself()
                elif id(target) not in self._done:
                    self._enter(target, stack)
                    break
            else:
                stack.pop()
                self._open.discard(id(node))
                measures = [self._done.get(id(target), 0) for target in self._edges(node)]
                total = sum(measures) if self._below else max(measures, default=0)
                self._done[id(node)] = min(1 + total, MAX_WEIGHT + 1)
        return self._done[id(start)]

    def _enter(self, node: JSONObject, stack: list[tuple[JSONObject, Iterator[JSONObject]]]) -> None:
        if id(node) not in self._done:
            self._open.add(id(node))
            stack.append((node, self._edges(node)))

    def _edges(self, node: JSONObject) -> Iterator[JSONObject]:
        yield from (rule for rule in here(self._root, node) if isinstance(rule, dict))
        if self._below:
            yield from (rule for rule in below(node) if isinstance(rule, dict))

    def _meets_itself(self) -> None:
        if not self._below:
            raise SchemaError("a rule leads back to itself")
        self.recurses = True


def _check_patterns(written: frozenset[str]) -> None:
    if len(written) > MAX_PATTERNS or sum(map(len, written)) > MAX_PATTERN_CHARS:
        raise SchemaError(f"it holds more than {MAX_PATTERNS} patterns, or {MAX_PATTERN_CHARS} characters of them")
    text = "\0".join(written)
    if len(_SHORTHAND.findall(text)) > MAX_SHORTHANDS:
        raise SchemaError(f"its patterns hold more than {MAX_SHORTHANDS} classes such as \\w")
    if _FOLDS.search(text) and len(_CLASS.findall(text)) > MAX_FOLDED:
        raise SchemaError(f"its patterns hold more than {MAX_FOLDED} classes, blind to case")


def _rules(root: JSONObject) -> list[JSONObject]:
    """Every rule that can apply, or stands ready to be referred to; each is checked before it is followed."""
    seen: dict[int, JSONObject] = {}
    todo: list[Schema] = [root]
    while todo:
        rule = todo.pop()
        if isinstance(rule, dict) and id(rule) not in seen:
            seen[id(rule)] = rule
            _check_words(rule, rule is root)
            todo.extend(here(root, rule))
            todo.extend(below(rule))
            todo.extend(kept for word in _DEFINITIONS for kept in rule.get(word, {}).values())
    return list(seen.values())


def _check_words(rule: JSONObject, is_root: bool) -> None:
    """The words that move references, and the kinds that a later step relies on; the engine checks the rest."""
    if any(word in rule for word in _FORBIDDEN) or ("$id" in rule and not is_root):
        raise SchemaError("it names parts of itself by other means than a pointer")
    for word in _LIST_HERE:
        if not isinstance(rule.get(word, []), list):
            raise SchemaError(f"'{word}' is not a list")
    for word in _MAP_HERE + _MAP_BELOW + _DEFINITIONS:
        if not isinstance(rule.get(word, {}), dict):
            raise SchemaError(f"'{word}' is not an object")
    if any("\0" in name for name in rule.get("properties", {})):
        raise SchemaError("an argument's name holds NUL")


def _depth_passes(value: JSON, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [c for n in level if isinstance(n, dict | list) for c in (n.values() if isinstance(n, dict) else n)]
        if not level:
            return False
    return True
