"""Grammars: what comes out matches, whatever the logits are; what cannot be held is refused in time."""

import json
import random
import re
from pathlib import Path

import jsonschema_rs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import smollm2_folder
from support.words import byte_level, sentencepiece

from llmcore.errors import GrammarError
from llmcore.grammar_bounds import check_regex
from llmcore.request import Grammar, GrammarKind
from llmcore.runner.grammar import Grammars, Matcher
from llmcore.text import Tokenizer

ANY = st.characters(exclude_categories=["Cs"])


class Model:
    """A tokenizer, its compiler, and an output drawn at random among what is allowed."""

    def __init__(self, tokenizer: Tokenizer, padding: int = 0) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = len(tokenizer.vocabulary.tokens) + padding
        self.grammars = Grammars(tokenizer, self.vocabulary)

    def allowed(self, matcher: Matcher) -> list[int]:
        row = torch.zeros(-(-self.vocabulary // 32), dtype=torch.int32)
        matcher.mask(row)
        bits = row.unsqueeze(-1) >> torch.arange(32) & 1
        return bits.view(-1).nonzero().view(-1).tolist()

    def said(self, tokens: list[int]) -> str:
        return b"".join(map(self.tokenizer.bytes_of, tokens)).decode()

    def drawn(self, matcher: Matcher, seed: int, most: int = 200) -> list[int] | None:
        """Without the end of text; None: it did not come."""
        draw, tokens = random.Random(seed), []
        for _ in range(most):
            tokens.append(draw.choice(self.allowed(matcher)))
            matcher.accept(tokens[-1])
            if tokens[-1] in self.tokenizer.eos:
                return tokens[:-1]
        return None


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(byte_level(tmp_path_factory.mktemp("small"), merges=["t r", "u e", "tr ue"]))


@pytest.fixture(scope="module")
def real() -> Model:
    return Model(Tokenizer.open(smollm2_folder()))


def schema(document: object) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(document))


def regex(text: str) -> Grammar:
    return Grammar(kind=GrammarKind.REGEX, text=text)


def choice(*values: str) -> Grammar:
    return Grammar(kind=GrammarKind.CHOICE, text=json.dumps(values))


FLIGHT = {
    "type": "object",
    "properties": {
        "from": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "seats": {"type": "integer", "minimum": 1, "maximum": 9},
        "class": {"enum": ["economy", "business"]},
        "stops": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["from", "seats", "class", "stops"],
    "additionalProperties": False,
}

# ---- what comes out -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
def test_an_output_under_a_schema_is_valid_whatever_the_logits_are(small: Model, seed: int) -> None:
    tokens = small.drawn(small.grammars.matcher(schema(FLIGHT)), seed)

    assert tokens is not None
    assert jsonschema_rs.is_valid(FLIGHT, json.loads(small.said(tokens)))


@pytest.mark.parametrize("seed", range(5))
def test_an_output_of_the_real_vocabulary_is_valid_too(real: Model, seed: int) -> None:
    tokens = real.drawn(real.grammars.matcher(schema(FLIGHT)), seed)

    assert tokens is not None
    assert jsonschema_rs.is_valid(FLIGHT, json.loads(real.said(tokens)))


@settings(deadline=None)
@given(
    values=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), seed=st.integers(0, 99)
)
def test_a_choice_is_one_of_its_strings_whatever_they_hold(small: Model, values: list[str], seed: int) -> None:
    tokens = small.drawn(small.grammars.matcher(choice(*values)), seed, most=2_000)

    assert tokens is not None
    assert small.said(tokens) in values


@given(seed=st.integers(0, 2**32))
def test_an_output_under_a_regex_matches_it_whole(small: Model, seed: int) -> None:
    tokens = small.drawn(small.grammars.matcher(regex(r"(?:ab|c+d){1,4}-[0-9]{2}")), seed)

    assert tokens is not None
    assert re.fullmatch(r"(?:ab|c+d){1,4}-[0-9]{2}", small.said(tokens))


def test_any_json_object_begins_with_a_brace(small: Model) -> None:
    matcher = small.grammars.matcher(Grammar(kind=GrammarKind.JSON_OBJECT))

    assert {small.tokenizer.text_of(token) for token in small.allowed(matcher)} == {"{"}


def test_sentencepiece_pieces_are_masked_by_the_text_that_is_shown(tmp_path: Path) -> None:
    model = Model(sentencepiece(tmp_path))
    matcher = model.grammars.matcher(regex("[é ]he"))

    tokens = model.drawn(matcher, seed=1)

    assert tokens is not None
    assert model.said(tokens) in {"éhe", " he"}


def test_the_end_is_allowed_where_the_output_is_whole_and_only_there(small: Model) -> None:
    (end,) = small.tokenizer.eos
    matcher = small.grammars.matcher(regex("ab*"))

    assert end not in small.allowed(matcher)
    matcher.accept(ord("a"))
    assert set(small.allowed(matcher)) == {end, ord("b")}
    assert not matcher.is_complete
    matcher.accept(end)
    assert matcher.is_complete


def test_an_output_that_can_take_no_more_is_complete(small: Model) -> None:
    matcher = small.grammars.matcher(regex("ab"))
    matcher.accept(ord("a"))
    assert not matcher.is_complete
    matcher.accept(ord("b"))

    assert matcher.is_complete
    assert set(small.allowed(matcher)) == small.tokenizer.eos


def test_markers_and_ids_without_a_token_are_never_allowed(tmp_path: Path) -> None:
    model = Model(byte_level(tmp_path), padding=70)
    allowed = model.allowed(model.grammars.matcher(regex("(?s).*")))

    assert set(allowed) <= {*range(256), *model.tokenizer.eos}
    assert len(allowed) > 100


def test_a_fork_goes_its_own_way(small: Model) -> None:
    matcher = small.grammars.matcher(regex("a(bc|de)"))
    matcher.accept(ord("a"))
    other = matcher.fork()
    matcher.accept(ord("b"))
    other.accept(ord("d"))

    assert small.allowed(matcher) == [ord("c")]
    assert small.allowed(other) == [ord("e")]


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 40))
def test_a_matcher_that_repeats_an_output_goes_on_as_the_first_would(small: Model, seed: int, cut: int) -> None:
    """What a restored or recomputed sequence does."""
    tokens = small.drawn(small.grammars.matcher(schema(FLIGHT)), seed)
    assert tokens is not None
    first, again = (small.grammars.matcher(schema(FLIGHT)) for _ in range(2))
    for token in tokens[:cut]:
        small.allowed(first)
        first.accept(token)
        again.accept(token)

    assert small.allowed(again) == small.allowed(first)


def test_a_token_that_was_not_allowed_leaves_none(small: Model) -> None:
    matcher = small.grammars.matcher(regex("ab"))
    matcher.accept(ord("z"))

    assert small.allowed(matcher) == []
    assert matcher.failure
    assert not matcher.is_complete


def test_a_grammar_that_becomes_too_complex_allows_nothing_not_even_the_end(small: Model) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    matcher = small.grammars.matcher(schema(endless))

    for _ in range(100):
        allowed = small.allowed(matcher)
        if not allowed:
            break
        matcher.accept(allowed[0])

    assert allowed == []
    assert matcher.failure


def test_a_row_of_another_vocabulary_is_an_error(small: Model) -> None:
    with pytest.raises(ValueError, match="words in a row"):
        small.grammars.matcher(regex("a")).mask(torch.zeros(3, dtype=torch.int32))


def test_a_model_without_an_end_of_text_follows_no_grammar(tmp_path: Path) -> None:
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")

    with pytest.raises(GrammarError, match="no eos token"):
        Model(Tokenizer.open(tmp_path)).grammars.matcher(regex("a"))


# ---- what is refused ------------------------------------------------------------------------------------------------


REFUSED = {
    "nothing is shorter and longer": (schema({"type": "string", "minLength": 5, "maxLength": 2}), "minLength"),
    "nothing is two types": (schema({"allOf": [{"type": "string"}, {"type": "integer"}]}), "incompatible"),
    "nothing is false": (schema(False), "whole is an object"),
    "no value": (schema({"enum": []}), "empty"),
    "an empty class": (regex(r"[^\s\S]"), "Nothing matches"),
    "no choices": (choice(), "at least one"),
    "choices that are no strings": (Grammar(kind=GrammarKind.CHOICE, text="[1]"), "list of strings"),
    "choices that are no JSON": (Grammar(kind=GrammarKind.CHOICE, text="["), "not JSON"),
    "a schema that is no JSON": (Grammar(kind=GrammarKind.JSON_SCHEMA, text="{nope"), "not JSON"),
    "half a surrogate": (choice("\ud800"), "cannot be compiled"),
    "half a surrogate in a regex": (regex("\ud800"), "cannot be compiled"),
    "a text for any object": (Grammar(kind=GrammarKind.JSON_OBJECT, text="{}"), "takes no text"),
    "an open group": (regex("(a"), "unclosed group"),
    "look-around": (regex("(?=a)b"), "look-around"),
    "a back-reference": (regex(r"(a)\1"), "backreferences"),
    "an unknown type": (schema({"type": "strin"}), "strin"),
    "not": (schema({"not": {"type": "string"}}), "'not' cannot be held"),
    "uniqueItems": (schema({"items": {"uniqueItems": True}}), "'uniqueItems' cannot be held"),
    "an unknown format": (schema({"type": "string", "format": "bogus"}), "bogus"),
    "options of the compiler": (schema({"x-guidance": {"lenient": True}}), "'x-guidance' cannot be held"),
    "a reference to elsewhere": (schema({"$ref": "http://example.com/x.json"}), "nothing is fetched"),
    "a reference to a file": (schema({"$ref": "file:///etc/passwd"}), "nothing is fetched"),
    "a reference to nothing": (schema({"$ref": "#/nope"}), "does not exist"),
    "a list that is none": (schema({"anyOf": 1}), "anyOf .* is a list"),
    "a map that is none": (schema({"properties": []}), "properties .* is an object"),
    "a schema that is a number": (schema({"items": 3}), "an object or a boolean"),
    "a count that is none": (schema({"maxLength": "3"}), "maxLength .* is a number"),
    "a pattern that is none": (schema({"pattern": 3}), "is a string"),
    "a multiple that is none": (schema({"multipleOf": 0}), "above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_impossible_or_invalid_grammar_is_refused_with_a_sentence(small: Model, name: str) -> None:
    grammar, sentence = REFUSED[name]
    with pytest.raises(GrammarError, match=sentence) as refused:
        small.grammars.matcher(grammar)

    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


HOSTILE = {
    "a long text": regex("a" * 40_000),
    "deep nesting": Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"items":' * 3_000 + "{}" + "}" * 3_000),
    "deeper than the decoder goes": Grammar(kind=GrammarKind.CHOICE, text="[" * 30_000),
    "moderate nesting": Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"items":' * 100 + "{}" + "}" * 100),
    "deep groups": regex("(" * 5_000 + "a" + ")" * 5_000),
    "a multiple with a state for each remainder": schema({"type": "integer", "multipleOf": 9_999_991}),
    "multiples whose product is large": schema({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}),
    "repetitions of repetitions": regex("(a{1000}){1000}"),
    "one great repetition": regex("a{1000000}"),
    "repetitions in a schema": schema({"type": "string", "pattern": "((a{100}){100}){100}"}),
    "repetitions in a key": schema({"patternProperties": {"(a{1000}){1000}": {}}}),
    "more properties than are compiled in time": schema({"properties": {f"p{i}": {} for i in range(1_000)}}),
    "braces that each might begin a count": schema({"type": "string", "pattern": "{" * 16_000 + "," * 16_000 + "}"}),
    "a great array": schema({"type": "array", "minItems": 10**9}),
    "references that double": schema(
        {
            "$defs": {f"d{i}": {"allOf": [{"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2}] * 2} for i in range(20)}
            | {"d20": {"type": "string"}},
            "$ref": "#/$defs/d0",
        }
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused(small: Model, name: str) -> None:
    with pytest.raises(GrammarError):
        small.grammars.matcher(HOSTILE[name])


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("a{10000}", True),
        ("a{10001}", False),
        ("(ab){5000}", True),
        ("(ab){5001}", False),
        ("(ab{2}){3000}", True),
        ("(ab{2}){3334}", False),
        ("a{1,9999}b*", True),
        (r"\(a{99}\){99}", True),
        (r"[(]{10000}", True),
        (r"[]({]{9}{9}{999}", False),
        (r"[^\]a]{10001}", False),
        (r"\p{L}{10000}", True),
        (r"\x{9}{10001}", False),
        ("{a}{b}", True),
        ("a{}b{,9}c{x}", True),
        ("a{ 9 , 99 }{999}", False),
        ("{" * 4_999 + "," * 5_000 + "}", True),
        ("{" * 5_000 + "," * 5_000 + "}", False),
    ],
)
def test_a_regex_is_as_large_as_its_repetitions_written_out(text: str, within: bool) -> None:
    try:
        check_regex(text)
    except GrammarError:
        assert not within
    else:
        assert within


@given(st.text("ab(){}[]\\^,19*|", max_size=40))
def test_any_regex_is_measured_or_refused(text: str) -> None:
    try:
        check_regex(text)
    except GrammarError as refused:
        assert "written out" in str(refused)  # noqa: PT017
