"""Answers that hostile text can give: types whose every value is known before the text is read.

A model reads the text, and its output is held to the type's grammar while it is decoded. What comes out of a boolean,
an enum or a bounded integer can say no more than `bits`, whatever the text tells the model to say; a date or a pattern
can carry words of its own and has no such number. Each type reads the answer again itself: `parse` trusts no decoder,
and its sentences never quote the answer.
"""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeAlias

import jsonschema_rs

from llmcore.errors import GrammarError
from llmcore.grammar_bounds import check_regex
from llmcore.request import Grammar, GrammarKind

MOST_VALUES: Final = 1_000
LONGEST_VALUE: Final = 100
"""Characters of one value of an enum."""
EXACT: Final = 2**53 - 1
"""The largest integer that every reader of JSON sees exactly (RFC 8259, section 6)."""
LONGEST_PATTERN: Final = 100
"""Characters of an answer that a pattern describes."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """Yes or no."""

    @property
    def bits(self) -> float:
        return 1.0

    @property
    def grammar(self) -> Grammar:
        return _choice(("yes", "no"))

    @property
    def asks(self) -> str:
        """How the answer is described to the model."""
        return "yes or no"

    @property
    def max_tokens(self) -> int:
        """Enough for any value and the end of text, one byte a token: no answer is cut."""
        return 4

    def parse(self, text: str) -> bool:
        """
        Raises:
            ValueError: the text is no answer of this type.
        """
        if text not in ("yes", "no"):
            raise ValueError("it is neither yes nor no")
        return text == "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enum:
    """One of the values that were declared.

    Raises:
        ValueError: fewer than two values, too many, equal ones, or one that cannot be told from another at sight.
    """

    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.values) <= MOST_VALUES:
            raise ValueError(f"an enum has from 2 to {MOST_VALUES} values, not {len(self.values)}")
        if len(set(self.values)) < len(self.values):
            raise ValueError("an enum's values differ from each other; one is declared twice")
        for value in self.values:
            if not value or value != value.strip() or not value.isprintable() or len(value) > LONGEST_VALUE:
                raise ValueError(
                    f"the enum value {value[:LONGEST_VALUE]!r} is no printable text of 1 to {LONGEST_VALUE} characters "
                    "without spaces around it"
                )

    @property
    def bits(self) -> float:
        return math.log2(len(self.values))

    @property
    def grammar(self) -> Grammar:
        return _choice(self.values)

    @property
    def asks(self) -> str:
        return "exactly one of: " + ", ".join(json.dumps(value, ensure_ascii=False) for value in self.values)

    @property
    def max_tokens(self) -> int:
        return 1 + max(len(value.encode()) for value in self.values)

    def parse(self, text: str) -> str:
        """
        Raises:
            ValueError: the text is no answer of this type.
        """
        if text not in self.values:
            raise ValueError("it is none of the declared values")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number from `minimum` to `maximum`, both included.

    Raises:
        ValueError: no range, or one that reaches beyond exact integers.
    """

    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        if self.minimum >= self.maximum:
            raise ValueError(f"an integer's minimum is below its maximum: {self.minimum} is not below {self.maximum}")
        if max(abs(self.minimum), abs(self.maximum)) > EXACT:
            raise ValueError(f"an integer's bounds lie within ±{EXACT}, where every reader sees the same number")

    @property
    def bits(self) -> float:
        return math.log2(self.maximum - self.minimum + 1)

    @property
    def grammar(self) -> Grammar:
        return _schema({"type": "integer", "minimum": self.minimum, "maximum": self.maximum})

    @property
    def asks(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}, in digits"

    @property
    def max_tokens(self) -> int:
        return 1 + max(len(str(self.minimum)), len(str(self.maximum)))

    def parse(self, text: str) -> int:
        """
        Raises:
            ValueError: the text is no answer of this type.
        """
        if not _INTEGER.fullmatch(text) or not self.minimum <= int(text) <= self.maximum:
            raise ValueError("it is no whole number within the bounds")
        return int(text)


@dataclass(frozen=True, slots=True)
class Date:
    """A day from the year 1000 to 9999, as `YYYY-MM-DD`."""

    @property
    def bits(self) -> None:
        """It stays as labelled as the text it was read from."""

    @property
    def grammar(self) -> Grammar:
        return Grammar(kind=GrammarKind.REGEX, text=_DATE)

    @property
    def asks(self) -> str:
        return "a date written YYYY-MM-DD"

    @property
    def max_tokens(self) -> int:
        return 1 + len("YYYY-MM-DD")

    def parse(self, text: str) -> str:
        """
        Raises:
            ValueError: the text is no answer of this type.
        """
        if not re.fullmatch(_DATE, text):
            raise ValueError("it is no date written YYYY-MM-DD")
        return date.fromisoformat(text).isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Text that a regular expression matches whole; asked and answered as a JSON string, so that it has an end.

    Raises:
        ValueError: no expression, or one that cannot be matched in linear time.
    """

    regex: str
    _validator: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.regex:
            raise ValueError("a pattern has a regular expression")
        try:
            check_regex(self.regex)
            validator = jsonschema_rs.validator_for(self._schema, pattern_options=jsonschema_rs.RegexOptions())
        except GrammarError as error:
            raise ValueError(str(error)) from error
        except jsonschema_rs.ValidationError as error:
            raise ValueError(
                f"{self.regex[:LONGEST_VALUE]!r} is no regular expression that is matched in linear time "
                "(no look-around, no back-references)"
            ) from error
        object.__setattr__(self, "_validator", validator)

    @property
    def bits(self) -> None:
        """It stays as labelled as the text it was read from."""

    @property
    def grammar(self) -> Grammar:
        return _schema(self._schema)

    @property
    def asks(self) -> str:
        return f"a text in double quotes that matches the regular expression {self.regex}"

    @property
    def max_tokens(self) -> int:
        return 3 + 6 * LONGEST_PATTERN

    def parse(self, text: str) -> str:
        """
        Raises:
            ValueError: the text is no answer of this type.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, str) or not self._validator.is_valid(value):
            raise ValueError("it does not match the declared pattern")
        return value

    @property
    def _schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.regex})$", "maxLength": LONGEST_PATTERN}


Answer: TypeAlias = Boolean | Enum | Integer | Date | Pattern

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")

_LEAP_YEAR: Final = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
_DATE: Final = (
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP_YEAR}-02-29)"
)
"""Days that there are, leap years included: no output is thrown away for being the 30th of February."""


def _choice(values: tuple[str, ...]) -> Grammar:
    return Grammar(kind=GrammarKind.CHOICE, text=json.dumps(values))


def _schema(schema: dict[str, Any]) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(schema))
