"""RULE: how a person writes one line of a grant, and what it admits.

    bank.pay(to = "DE89...", amount_cents <= 80000, currency in ["EUR"], memo startswith "rent")
    files.*

An argument is named by its top-level name, or by a JSON pointer (`/items/0/price`). Values are text in JSON quotes,
whole numbers, `true` or `false`; a number is never equal to a text or a flag. A list is admitted when it is not empty
and each of its elements is. A prefix never admits a value that climbs out of it (`../`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.grant import Constraint, Op, Rule, Scalar
from policies.jsonvalue import JSON, JSONObject, pointer

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""What a token's Datalog can compare."""

CLIMBS = ("../", "/..", "..\\", "\\..", "%2e", "%2E", "..%", "%2f..", "%2F..", "%5c..", "%5C..")
"""Ways out of a prefix, plain or URL-encoded."""


class RuleError(ValueError):
    """A rule that cannot be read; the message points at the place."""

    def __init__(self, expected: str, text: str = "", column: int = 0) -> None:
        self.column = column
        """Counted from 1; 0 where the rule was not written as text."""
        where = f"rule, column {column}: {expected}\n  {text}\n  {' ' * (column - 1)}^" if column else expected
        super().__init__(where)


def parse_rule(text: str) -> Rule:
    """Read one RULE.

    Raises:
        RuleError: it does not follow the grammar.
    """
    return _Reader(text).rule()


def str_rule(rule: Rule) -> str:
    """The rule as a person writes it; `parse_rule` reads it back."""
    constraints = ", ".join(_str_constraint(c) for c in rule.constraints)
    return f"{rule.server}.{rule.tool}" + (f"({constraints})" if constraints else "")


def argument_path(constraint: Constraint) -> str:
    """The JSON pointer of the argument that a constraint bounds."""
    return constraint.argument if constraint.argument.startswith("/") else pointer(constraint.argument)


def satisfies(rule: Rule, server: str, tool: str, arguments: JSONObject) -> bool:
    """Whether a call stays within the whole rule. Says in Python what `capability.py` says in Datalog."""
    return satisfied((rule,), server, tool, arguments) != ()


def satisfied(rules: Sequence[Rule], server: str, tool: str, arguments: JSONObject) -> tuple[int, ...]:
    """Which of the rules a call stays within, whole, by index."""
    named = [place for place, rule in enumerate(rules) if rule.server == server and rule.tool in ("*", tool)]
    values = bounded_values(arguments) if any(rules[place].constraints for place in named) else {}
    return tuple(place for place in named if all(_holds(constraint, values) for constraint in rules[place].constraints))


def bounded_values(arguments: JSONObject) -> dict[str, tuple[Scalar, ...]]:
    """JSON pointer to the values that a constraint on it speaks of: a scalar itself, or a list's elements.

    Absent, so that no constraint can hold there: null, fractions, integers beyond 64 bits, text that is not Unicode,
    objects, and lists that are empty or hold anything but scalars of one type.
    """
    found: dict[str, tuple[Scalar, ...]] = {}
    _bounded("", arguments, found)
    return found


def check_rule(rule: Rule) -> None:
    """Refuse a rule that was built in code and that no text could have said.

    Raises:
        RuleError: naming the part.
    """
    if not _SERVER.fullmatch(rule.server):
        raise RuleError(f"not a server's name: {rule.server!r}")
    if not _TOOL.fullmatch(rule.tool):
        raise RuleError(f"not a tool's name: {rule.tool!r}")
    for constraint in rule.constraints:
        if wrong := _wrong(constraint):
            raise RuleError(f"{rule.server}.{rule.tool}, {constraint.argument} {constraint.op}: {wrong}")


_SERVER = re.compile(r"[a-z][a-z0-9-]{0,23}")
_TOOL = re.compile(r"\*|[A-Za-z0-9_.:/-]{1,128}")
_HEAD = re.compile(rf"\s*({_SERVER.pattern})\.({_TOOL.pattern})\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_POINTER = re.compile(r"/[A-Za-z0-9_~/.-]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?\d{1,20}(?![\d.eE])")
_OP = re.compile(r"<=|>=|=|in\b|startswith\b")
_HOST_ONLY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def _admits(constraint: Constraint, value: Scalar) -> bool:
    match constraint.op:
        case Op.EQUALS | Op.IN:
            return value in constraint.values and any(
                type(value) is type(one) and value == one for one in constraint.values
            )
        case Op.AT_MOST:
            return type(value) is int and value <= int(constraint.values[0])
        case Op.AT_LEAST:
            return type(value) is int and value >= int(constraint.values[0])
        case Op.STARTS_WITH:
            return type(value) is str and value.startswith(str(constraint.values[0])) and not _climbs(value)


def _climbs(text: str) -> bool:
    return any(way in text for way in CLIMBS)


def _holds(constraint: Constraint, values: Mapping[str, tuple[Scalar, ...]]) -> bool:
    found = values.get(argument_path(constraint), ())
    return found != () and all(_admits(constraint, value) for value in found)


def _bounded(path: str, value: JSON, found: dict[str, tuple[Scalar, ...]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if _is_unicode(key):
                _bounded(path + pointer(key), inner, found)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _bounded(f"{path}/{index}", inner, found)
        if value and all(_is_scalar(one) and type(one) is type(value[0]) for one in value):
            found[path] = tuple(value)
    elif _is_scalar(value):
        found[path] = (value,)


def _is_scalar(value: JSON) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return INT_MIN <= value <= INT_MAX
    return isinstance(value, str) and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _wrong(constraint: Constraint) -> str:
    """What is wrong with a constraint's values; empty when nothing is."""
    values = constraint.values
    if not constraint.argument or not _is_unicode(constraint.argument):
        return "expected an argument's name"
    if not values or not all(_is_scalar(value) for value in values):
        return "expected text, a whole number of 64 bits, true or false"
    if len({type(value) for value in values}) > 1:
        return "expected values of one type"
    if constraint.op is not Op.IN and len(values) > 1:
        return "expected one value"
    match constraint.op:
        case Op.EQUALS | Op.IN:
            return ""
        case Op.AT_MOST | Op.AT_LEAST:
            return "" if type(values[0]) is int else "expected a whole number (money in minor units, such as cents)"
        case Op.STARTS_WITH:
            return _wrong_prefix(values[0])


def _wrong_prefix(prefix: Scalar) -> str:
    if not isinstance(prefix, str) or not prefix:
        return "expected text"
    if _climbs(prefix):
        return "expected a prefix without `..`"
    if _HOST_ONLY.fullmatch(prefix):
        return "expected `/` after the host: without it the prefix also admits longer hosts"
    return ""


def _str_constraint(constraint: Constraint) -> str:
    argument, op = constraint.argument, constraint.op
    bare = _NAME.fullmatch(argument) or _POINTER.fullmatch(argument)
    name = argument if bare else json.dumps(argument, ensure_ascii=False)
    values = ", ".join(json.dumps(value, ensure_ascii=False) for value in constraint.values)
    return f"{name} {op} [{values}]" if op is Op.IN else f"{name} {op} {values}"


@dataclass(slots=True)
class _Reader:
    """A cursor over the text of one rule."""

    text: str
    at: int = 0

    def rule(self) -> Rule:
        head = self._take(_HEAD)
        if head is None:
            raise self._expected("SERVER.TOOL or SERVER.*, such as bank.pay")
        constraints: list[Constraint] = []
        if self._skip("("):
            constraints.append(self._constraint())
            while self._skip(","):
                constraints.append(self._constraint())
            if not self._skip(")"):
                raise self._expected("`,` or `)`")
        if self.at < len(self.text):
            raise self._expected("`(` or the end" if not constraints else "the end")
        return Rule(head[1], head[2], tuple(constraints))

    def _constraint(self) -> Constraint:
        argument = self._argument()
        op = self._take(_OP)
        if op is None:
            raise self._expected("`=`, `in`, `<=`, `>=` or `startswith`")
        start = self.at
        values = self._values() if op[0] == Op.IN else (self._value(),)
        constraint = Constraint(argument, Op(op[0]), values)
        if wrong := _wrong(constraint):
            self.at = start
            raise RuleError(wrong, self.text, self._column())
        return constraint

    def _argument(self) -> str:
        if found := self._take(_NAME) or self._take(_POINTER):
            return found[0]
        if quoted := self._quoted():
            return quoted
        raise self._expected("an argument's name")

    def _values(self) -> tuple[Scalar, ...]:
        if not self._skip("["):
            raise self._expected("`[`")
        values = [self._value()]
        while self._skip(","):
            values.append(self._value())
        if not self._skip("]"):
            raise self._expected("`,` or `]`")
        return tuple(values)

    def _value(self) -> Scalar:
        if (quoted := self._quoted()) is not None:
            return quoted
        if number := self._take(_NUMBER):
            return int(number[0])
        if word := self._take(_NAME):
            if word[0] in ("true", "false"):
                return word[0] == "true"
            self.at = word.start()
        raise self._expected("text in quotes, a whole number, true or false")

    def _quoted(self) -> str | None:
        found = self._take(_STRING)
        if found is None:
            return None
        try:
            return str(json.loads(found[0]))
        except json.JSONDecodeError as error:
            self.at = found.start() + error.pos
            raise self._expected("text in JSON quotes") from None

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._space()
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
            self._space()
        return found

    def _skip(self, mark: str) -> bool:
        self._space()
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        self._space()
        return True

    def _space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _column(self) -> int:
        return self.at + 1

    def _expected(self, what: str) -> RuleError:
        found = f"`{self.text[self.at]}`" if self.at < len(self.text) else "the end"
        return RuleError(f"expected {what}, found {found}", self.text, self._column())
