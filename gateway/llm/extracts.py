"""Typed questions to hostile text: the operator's declarations as answers that the engine can be held to.

A boolean, an enum that the operator declared and a bounded integer rise out of the text's label: an `attested` value
that can say no more than its bits, which are counted. A date or a pattern stays as labelled as the text.
"""

import math

from gateway.options import ExtractOptions
from llmcore.extraction import Answer, Boolean, Date, Enum, Integer, Pattern
from llmcore.prompts import question_prompt
from policies.jsonvalue import JSONObject
from policies.label import Integrity, Label

BITS = "bits"
"""The budget of what may rise out of hostile text."""


def answer_of(options: ExtractOptions) -> Answer:
    """The answer's type.

    Raises:
        ValueError: a declaration without an answer, or with keys of another type.
    """
    match options.type:
        case "boolean":
            answer: Answer = Boolean()
        case "enum":
            answer = Enum(values=options.values)
        case "integer":
            answer = Integer(minimum=options.minimum, maximum=options.maximum)
        case "date":
            answer = Date()
        case "pattern":
            answer = Pattern(regex=options.pattern)
        case other:
            raise ValueError(f"no answer is of type {other!r}")
    _only(options, {"enum": "values", "integer": "minimum", "pattern": "pattern"}.get(options.type, ""))
    return answer


def question(options: ExtractOptions, text: str) -> JSONObject:
    """The question to this text as arguments of a generation: greedy, and held to the answer's grammar."""
    answer = answer_of(options)
    grammar = answer.grammar
    return {
        "messages": question_prompt(answer, options.question, text),
        "max_tokens": answer.max_tokens,
        "temperature": 0.0,
        "seed": 0,
        "grammar": {"kind": str(grammar.kind), "text": grammar.text},
    }


def bits(answer: Answer) -> int:
    """What an answer takes from the budget: its bits, rounded up; 0 where it does not rise."""
    return math.ceil(answer.bits) if answer.bits is not None else 0


def risen(answer: Answer, label: Label) -> Label:
    """The label of the answer to a text of this label: only what its type bounds rises, and its readers stay."""
    if answer.bits is None or label.integrity >= Integrity.ATTESTED:
        return label
    return Label(integrity=Integrity.ATTESTED, readers=label.readers, classes=label.classes, sources=label.sources)


def _only(options: ExtractOptions, own: str) -> None:
    """Raises:
    ValueError: a key that says nothing for this type.
    """
    given = {
        "values": bool(options.values),
        "minimum": bool(options.minimum or options.maximum),
        "pattern": bool(options.pattern),
    }
    for key, is_given in given.items():
        if is_given and key != own:
            raise ValueError(f"type {options.type!r} has no {key}")
