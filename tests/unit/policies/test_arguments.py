"""Arguments against schemas: what is declared, what is filled, what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.arguments import MAX_DEPTH, MAX_NODES, Checker, Filled, Refused, compile_schema
from policies.jsonvalue import JSON, JSONObject


def checker(**schema: Any) -> Checker:
    made = compile_schema({"type": "object", **schema})
    assert isinstance(made, Checker), made
    return made


def fill(arguments: JSONObject, **schema: Any) -> JSONObject | list[tuple[str, str]]:
    """The filled arguments, or the problems as (path, message)."""
    filled = checker(**schema).fill(arguments)
    return filled.arguments if isinstance(filled, Filled) else [(p.path, p.message) for p in filled]


STRING = {"type": "string"}
UNDECLARED = "not declared by the tool's schema"
CONFUSED = "differs from another key by case or compatible characters only"


def test_defaults_are_filled_at_every_depth_and_named() -> None:
    made = checker(
        properties={
            "a": {"type": "integer", "default": 1},
            "deep": {"type": "object", "properties": {"b": {"default": "x"}}},
            "whole": {"type": "object", "properties": {"c": STRING}, "default": {"c": "y"}},
            "absent": {"type": "object", "properties": {"d": {"default": 1}}},
        }
    )
    filled = made.fill({"deep": {}})
    assert filled == Filled(
        {"deep": {"b": "x"}, "a": 1, "whole": {"c": "y"}}, frozenset({"/a", "/deep/b", "/whole", "/whole/c"})
    )


@pytest.mark.parametrize("said", [{"$ref": "#/$defs/n"}, {"allOf": [{"$ref": "#/$defs/n"}]}])
def test_a_default_is_found_through_a_reference(said: JSON) -> None:
    assert fill({}, properties={"n": said}, **{"$defs": {"n": {"type": "integer", "default": 3}}}) == {"n": 3}


def test_a_default_of_one_alternative_is_not_certain() -> None:
    alternatives = [{"properties": {"a": {"default": 1}}}, {"properties": {"b": STRING}}]
    assert fill({"b": "x"}, anyOf=alternatives) == {"b": "x"}


def test_a_default_that_its_own_rule_refuses_is_not_believed() -> None:
    assert fill({}, properties={"a": {"type": "string", "default": None}}) == {}


@pytest.mark.promise("undeclared-refused")
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"x": 1}, "/x"),
        ({"deep": {"x": 1}}, "/deep/x"),
        ({"list": [{"a": "1"}, {"x": 1}]}, "/list/1/x"),
        ({"any": {"x": 1}}, "/any/x"),
        ({"bare": [{"x/~": 1}]}, "/bare/0/x~1~0"),
    ],
)
def test_a_key_that_no_rule_declares_is_refused_at_every_depth(arguments: JSONObject, path: str) -> None:
    properties = {
        "deep": {"type": "object", "properties": {"a": STRING}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": STRING}}},
        "any": {},
        "bare": {"type": "array"},
    }
    assert fill(arguments, properties=properties) == [(path, UNDECLARED)]


def test_a_schema_that_opens_in_so_many_words_is_open() -> None:
    assert fill({"x": {"y": [{"z": 1}]}}, additionalProperties=True) == {"x": {"y": [{"z": 1}]}}
    assert fill({"x": "1"}, additionalProperties=STRING) == {"x": "1"}
    assert fill({"x": {"y": 1}}, additionalProperties={"type": "object"}) == [("/x/y", UNDECLARED)]
    assert fill({"x-1": "1"}, patternProperties={"^x-": STRING}) == {"x-1": "1"}
    assert fill({"y-1": "1"}, patternProperties={"^x-": STRING}) == [("/y-1", UNDECLARED)]
    assert fill({"y": 1}, additionalProperties=False) == [("/y", UNDECLARED)]


def test_keys_of_alternatives_are_declared_and_the_engine_has_the_last_word() -> None:
    cat, dog = ({"properties": {n: STRING}, "required": [n], "additionalProperties": False} for n in ("cat", "dog"))
    assert fill({"cat": "x"}, oneOf=[cat, dog]) == {"cat": "x"}
    assert isinstance(fill({"cat": "x", "dog": "y"}, oneOf=[cat, dog]), list)


@pytest.mark.promise("colliding-keys-refused")
@pytest.mark.parametrize("twin", ["TO", "To", "\uff54\uff4f", "\u1d57o", "tO"])
def test_a_key_that_a_careless_reader_takes_for_a_declared_one_is_refused(twin: str) -> None:
    for arguments in ({twin: "x"}, {"to": "a", twin: "x"}, {twin: "x", "to": "a"}):
        assert fill(arguments, properties={"to": STRING}, additionalProperties=True) == [(f"/{twin}", CONFUSED)]


@pytest.mark.promise("colliding-keys-refused")
@pytest.mark.parametrize(
    ("one", "other"), [("a", "A"), ("K", "\u212a"), ("\u017f", "S"), ("\xdf", "ss"), ("\xe9", "e\u0301")]
)
def test_open_keys_that_are_one_to_a_careless_reader_are_refused(one: str, other: str) -> None:
    assert fill({"deep": {one: 1, other: 2}}, additionalProperties=True) == [(f"/deep/{other}", CONFUSED)]


def test_declared_twins_may_be_used_one_at_a_time() -> None:
    properties = {"i": STRING, "I": STRING}
    assert fill({"I": "x"}, properties=properties) == {"I": "x"}
    assert fill({"i": "x", "I": "y"}, properties=properties) == [("/I", CONFUSED)]


@pytest.mark.parametrize("key", ["to\0", "\ud800"])
def test_keys_with_nul_or_lone_surrogates_are_refused(key: str) -> None:
    assert fill({key: 1}, additionalProperties=True) == [("", "a key holds NUL or a lone surrogate")]


@pytest.mark.promise("exact-numbers")
@pytest.mark.parametrize("number", [2**53, -(2**53), 2**64, 1e300, float("inf"), float("nan")])
def test_numbers_that_another_reader_sees_differently_are_refused(number: float) -> None:
    for arguments in ({"n": number}, {"n": [number]}, {"n": {"m": number}}):
        assert isinstance(fill(arguments, additionalProperties=True), list)


def test_numbers_have_one_spelling() -> None:
    filled = fill({"a": 1.0, "b": -0.0, "c": 2**53 - 1, "d": 0.5, "e": True}, additionalProperties=True)
    assert json.dumps(filled) == '{"a": 1, "b": 0, "c": 9007199254740991, "d": 0.5, "e": true}'


def test_lone_surrogates_and_depth_are_bounded() -> None:
    assert fill({"a": "\ud800"}, additionalProperties=True) == [("/a", "holds a lone surrogate")]
    deep: JSON = 1
    for _ in range(MAX_DEPTH):
        deep = {"a": deep}
    assert isinstance(fill(deep, additionalProperties=True), dict)
    assert isinstance(fill({"a": deep}, additionalProperties=True), list)


@pytest.mark.promise("values-bounded")
def test_a_call_with_more_than_a_thousand_values_is_refused() -> None:
    most = {"a": [0] * (MAX_NODES - 1)}
    assert fill(most, additionalProperties=True) == most
    for more in ({"a": [0] * MAX_NODES}, {"a": {str(n): [] for n in range(MAX_NODES)}}):
        assert fill(more, additionalProperties=True) == [("/a", "more than 1,000 values")]


def test_problems_name_the_path_and_never_the_value() -> None:
    problems = fill({"a": "s3cret", "b": 1}, properties={"a": {"type": "integer"}, "b": STRING})
    assert problems == [
        ("/a", 'the value is not of type "integer"'),
        ("/b", 'the value is not of type "string"'),
    ]


NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "v": STRING}}


def test_a_schema_that_recurses_through_the_arguments_is_taken() -> None:
    made = checker(properties={"tree": {"$ref": "#/$defs/node"}}, **{"$defs": {"node": NODE}})
    assert isinstance(made.fill({"tree": {"next": {"next": {"v": "x"}}}}), Filled)
    assert made.fill({"tree": {"next": {"next": {"w": "x"}}}})[0].path == "/tree/next/next/w"  # type: ignore[index]


@pytest.mark.promise("schema-bounded")
@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {"type": "string"},
        {"type": "object", "$ref": "http://evil.example/schema.json"},
        {"type": "object", "$ref": "file:///etc/passwd"},
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}},
        {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"type": "object", "$schema": "https://evil.example/dialect"},
        {"type": "object", "properties": {"a": {"$id": "x"}}},
        {"type": "object", "$dynamicRef": "#x"},
        {"type": "object", "anyOf": [{}] * 300},
        {"type": "object", "properties": {"a": {"pattern": "("}}},
        {"type": "object", "properties": {"a": {"type": "no such type"}}},
        {"type": "object", "properties": 3},
        {"type": "object", "properties": {"a": "x"}},
        {"type": "object", "properties": {"to\0": {}}},
        {"type": "object", "description": "x" * 200_000},
        {"type": "object", "properties": {f"p{n}": {"pattern": f"^{n}$"} for n in range(200)}},
        {"type": "object", "patternProperties": {f"^{n}$": {} for n in range(200)}},
        {"type": "object", "default": {f"p{n}": {"pattern": f"^{n}$"} for n in range(200)}},
        {"type": "object", "properties": {"a": {"pattern": "a|" * 9_000}}},
        {"type": "object", "properties": {"a": {"pattern": "\\S" * 100}}},
        {"type": "object", "properties": {"a": {"pattern": "(?i)" + "[\u00e0-\uffff]" * 50}}},
    ],
)
def test_schemas_out_of_bounds_are_refused(schema: JSON) -> None:
    assert isinstance(compile_schema(schema), Refused)


@pytest.mark.promise("schema-bounded")
def test_defaults_that_refer_to_much_each_are_refused() -> None:
    much = {"type": "object", "properties": {f"q{n}": {} for n in range(2_000)}}
    rules = {f"p{n}": {"$ref": "#/$defs/much", "default": {}} for n in range(500)}
    assert isinstance(compile_schema({"type": "object", "$defs": {"much": much}, "properties": rules}), Refused)


@pytest.mark.promise("schema-bounded")
def test_a_schema_of_ordinary_patterns_is_taken() -> None:
    patterns = (r"^\d{4}-\d{2}-\d{2}$", r"^[a-zA-Z0-9_.-]{1,64}$", r"^\S+@\S+\.\S+$", "(?i)^[a-f0-9]{8}$", "^.{1,255}$")
    checker(properties={f"p{n}": {"type": "string", "pattern": each} for n, each in enumerate(patterns)})


@pytest.mark.promise("schema-bounded")
def test_a_deep_schema_is_refused_and_does_not_overflow() -> None:
    schema: JSON = {"type": "object"}
    for _ in range(100_000):
        schema = {"type": "object", "properties": {"a": schema}}
    assert isinstance(compile_schema(schema), Refused)


@pytest.mark.promise("schema-bounded")
@pytest.mark.timeout(20)
def test_doubling_references_do_not_run_away() -> None:
    bomb = {f"r{n}": {"allOf": [{"$ref": f"#/$defs/r{n + 1}"} for _ in range(4)]} for n in range(14)} | {"r14": STRING}
    made = checker(properties={"a": {"$ref": "#/$defs/r0"}}, **{"$defs": bomb})
    assert isinstance(made.fill({"a": "x"}), tuple)


@pytest.mark.promise("schema-bounded")
@pytest.mark.timeout(20)
def test_alternatives_that_double_with_each_level_of_the_arguments_do_not_run_away() -> None:
    twice = {"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}
    made = checker(properties={"a": {"$ref": "#"}}, **twice)
    arguments: JSON = {}
    for _ in range(30):
        arguments = {"a": arguments}
    assert isinstance(made.fill(arguments), tuple)


@pytest.mark.promise("schema-bounded")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["^(a+)+$", r"^(a|a)*\1$", r"^(?=(a+)+$)(a|aa)+b"])
def test_a_pattern_that_backtracks_is_bounded(pattern: str) -> None:
    made = checker(properties={"s": {"type": "string", "pattern": pattern}})
    assert isinstance(made.fill({"s": "a" * 5_000 + "!"}), tuple)
    keys = checker(patternProperties={pattern: STRING})
    assert isinstance(keys.fill({"a" * 200 + "!": "x"}), tuple)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("aAé", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abA", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abA", max_size=2), VALUES, max_size=4))
def test_filling_is_idempotent_and_changes_no_value(arguments: JSONObject) -> None:
    made = checker(properties={"a": {"default": 1}, "b": {"type": ["object", "null"]}}, additionalProperties=True)
    filled = made.fill(arguments)
    if isinstance(filled, Filled):
        assert made.fill(filled.arguments) == Filled(filled.arguments)
        assert {key: value for key, value in filled.arguments.items() if key in arguments} == arguments
