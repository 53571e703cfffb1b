"""What a grammar may ask for: a stranger's schema must not cost the engine more than a few steps' time.

The compiler has limits of its own, and they are set (`runner/grammar.py`). These stand before it, because some schemas
cost it minutes before any of its limits is reached: `multipleOf: 9999991` builds a state for each remainder, and
`(a{1000}){1000}` forces a million letters at once. Needs neither torch nor the compiler, so an edge can refuse early.
"""

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from llmcore.errors import GrammarError
from llmcore.request import Grammar, GrammarKind

MOST_BYTES: Final = 32 * 1024
MOST_DEPTH: Final = 64
MOST_PARTS: Final = 1_000
MOST_ALTERNATIVES: Final = 100
"""In all `anyOf` and `oneOf` of a schema: each is followed at once, at every token."""
"""Schemas in a schema, itself included: compiling properties costs the square of their number."""
MOST_REPEATS: Final = 10_000
"""Letters that a regex is, its counted repetitions written out; items and letters that a schema can demand."""
MOST_UPPER: Final = 1_000_000
"""Items and letters that a schema can allow."""
MOST_MULTIPLE: Final = 1_000
"""The least common multiple of all `multipleOf`: that many states."""

_SCHEMAS: Final = frozenset({"items", "additionalProperties", "additionalItems"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_COUNTS: Final = {
    "minLength": MOST_REPEATS,
    "minItems": MOST_REPEATS,
    "minProperties": MOST_REPEATS,
    "maxLength": MOST_UPPER,
    "maxItems": MOST_UPPER,
    "maxProperties": MOST_UPPER,
}
_PLAIN: Final = frozenset(
    {"type", "enum", "const", "required", "format", "pattern", "$ref"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_WORDS: Final = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"}
)
"""They say something to people and nothing to a grammar."""
_COUNT: Final = re.compile(r"\{([\d, ]++)\}")
"""It looks no further than the braces can be a count: to judge a regex takes time in its length alone."""
KEYWORDS: Final = _SCHEMAS | _LISTS | _MAPS | _COUNTS.keys() | _PLAIN | _WORDS


def check(grammar: Grammar) -> None:
    """Whether it is worth compiling.

    Raises:
        GrammarError: it is malformed, too large, or says what cannot be held by construction.
    """
    size = len(grammar.text.encode(errors="replace"))
    if size > MOST_BYTES:
        raise GrammarError(f"The grammar has {size} bytes; at most {MOST_BYTES} are compiled.")
    match grammar.kind:
        case GrammarKind.REGEX:
            check_regex(grammar.text)
        case GrammarKind.CHOICE:
            choices(grammar)
        case GrammarKind.JSON_SCHEMA:
            schema(grammar)
        case GrammarKind.JSON_OBJECT:
            if grammar.text:
                raise GrammarError("A grammar for any JSON object takes no text; a schema is of the kind json_schema.")


def choices(grammar: Grammar) -> list[str]:
    """What may be said.

    Raises:
        GrammarError: it is no list of strings, or an empty one.
    """
    said = _decoded(grammar.text, "The choices are")
    if not isinstance(said, list) or not said or not all(isinstance(each, str) for each in said):
        raise GrammarError("Choices are a JSON list of strings, at least one.")
    return said


def schema(grammar: Grammar) -> dict[str, Any]:
    """The schema, every part of it known and within bounds.

    Raises:
        GrammarError: it says which keyword is the matter.
    """
    root = _decoded(grammar.text, "The schema is")
    multiples: list[Fraction] = []
    alternatives = 0
    for count, node in enumerate(_nodes(root, 0), start=1):
        if count > MOST_PARTS:
            raise GrammarError(f"The schema has more than {MOST_PARTS} parts; that many are compiled.")
        if not isinstance(node, dict):
            raise GrammarError("Every part of a JSON schema is an object or a boolean, and the whole is an object.")
        _check_node(node)
        alternatives += sum(len(node[one]) for one in ("anyOf", "oneOf") if isinstance(node.get(one), list))
        if alternatives > MOST_ALTERNATIVES:
            raise GrammarError(f"The schema has more than {MOST_ALTERNATIVES} alternatives; an enum is cheap.")
        multiples += [_multiple(node["multipleOf"])] if "multipleOf" in node else []
    if multiples and math.lcm(*(each.numerator * each.denominator for each in multiples)) > MOST_MULTIPLE:
        raise GrammarError(
            f"multipleOf goes up to {MOST_MULTIPLE}, and so does the least common multiple of all in a schema."
        )
    assert isinstance(root, dict)
    return root


def check_regex(regex: str) -> None:
    """Whether its counted repetitions stay small. Its syntax is the compiler's to judge.

    Raises:
        GrammarError: they do not.
    """
    size = _written_out(regex)
    if size > MOST_REPEATS:
        raise GrammarError(
            f"The regular expression has {size} letters when its repetitions are written out; "
            f"at most {MOST_REPEATS} are compiled."
        )


def _decoded(text: str, subject: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise GrammarError(f"{subject} not JSON: {str(failure)[:200]}") from failure


def _nodes(node: Any, depth: int) -> Iterator[Any]:
    """A schema and every schema inside it; booleans below the root say nothing more."""
    if depth > MOST_DEPTH:
        raise GrammarError(f"The schema is nested deeper than {MOST_DEPTH} levels.")
    if isinstance(node, bool) and depth > 0:
        return
    yield node
    if not isinstance(node, dict):
        return
    for keyword, value in node.items():
        for inner in _inside(keyword, value):
            yield from _nodes(inner, depth + 1)


def _inside(keyword: str, value: Any) -> Iterator[Any]:
    if keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
        if not isinstance(value, list):
            raise GrammarError(f"{keyword} in a JSON schema is a list of schemas.")
        yield from value
    elif keyword in _SCHEMAS:
        yield value
    elif keyword in _MAPS:
        if not isinstance(value, dict):
            raise GrammarError(f"{keyword} in a JSON schema is an object of schemas.")
        yield from value.values()


def _check_node(node: dict[str, Any]) -> None:
    unknown = sorted(node.keys() - KEYWORDS)
    if unknown:
        raise GrammarError(f"The JSON-schema keyword {unknown[0][:60]!r} cannot be held while decoding; leave it out.")
    for keyword, most in _COUNTS.items():
        count = node.get(keyword, 0)
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count <= most:
            raise GrammarError(f"{keyword} in a JSON schema is a number from 0 to {most}.")
    if "$ref" in node and not (isinstance(node["$ref"], str) and node["$ref"].startswith("#")):
        raise GrammarError("A $ref in a JSON schema stays in the schema (it begins with '#'): nothing is fetched.")
    for pattern in (node.get("pattern", ""), *node.get("patternProperties", ())):
        if not isinstance(pattern, str):
            raise GrammarError("A pattern in a JSON schema is a string.")
        check_regex(pattern)


def _multiple(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
        raise GrammarError("multipleOf in a JSON schema is a number above 0.")
    return Fraction(str(value))


def _written_out(regex: str) -> int:
    """About how many letters and classes it is with `x{n}` as n times `x`; `*` and `+` count once."""
    sizes, last = [0], 0  # of the groups that are open, without their last item; that item
    at = 0
    while at < len(regex):
        character = regex[at]
        end = at + 1
        if character == "\\":
            end = _escape_end(regex, at)
            sizes[-1], last = sizes[-1] + last, 1
        elif character == "[":
            end = _class_end(regex, at)
            sizes[-1], last = sizes[-1] + last, 1
        elif character == "(":
            sizes[-1], last = sizes[-1] + last, 0
            sizes.append(0)
        elif character == ")" and len(sizes) > 1:
            last = sizes.pop() + last
        elif character == "{" and (count := _count(regex, at)) is not None:
            end, times = count
            last *= max(times, 1)
        elif character not in "*+?|":
            sizes[-1], last = sizes[-1] + last, 1
        at = end
    return sum(sizes) + last


def _escape_end(regex: str, at: int) -> int:
    """Past `\\d`, `\\p{Greek}` or `\\x{1F600}`; only these letters take braces that are no count."""
    braced = regex[at + 1 : at + 2] in {"p", "P", "x", "u", "U"} and regex[at + 2 : at + 3] == "{"
    return regex.find("}", at) + 1 or len(regex) if braced else at + 2


def _class_end(regex: str, at: int) -> int:
    """Past a class's closing bracket; classes may hold classes, and `]` as their first letter."""
    depth, first = 0, at
    while at < len(regex):
        match regex[at]:
            case "\\":
                at += 1
            case "[":
                depth, first = depth + 1, at
            case "]" if regex[first + 1 : at] not in {"", "^"}:
                depth -= 1
                if depth == 0:
                    return at + 1
        at += 1
    return len(regex)


def _count(regex: str, at: int) -> tuple[int, int] | None:
    """Where `{m,n}` ends and its larger number; None: these are plain braces."""
    found = _COUNT.match(regex, at)
    numbers = found[1].replace(" ", "").split(",") if found else []
    if found is None or not numbers[0]:
        return None
    return found.end(), max(int(each[:12]) for each in numbers if each)
