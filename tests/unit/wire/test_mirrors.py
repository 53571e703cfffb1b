"""Headers that mirror the body, against the SDK's own reading of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import (
    decode_header_value,
    encode_header_value,
    mcp_param_headers,
    validate_mcp_param_headers,
    x_mcp_header_map,
)

from gateway.wire.mirrors import decode_value, disagreement, encode_value, mirrors

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        "deep": {"type": "object", "properties": {"k": {"type": "string", "x-mcp-header": "K"}}},
        "plain": {"type": "string"},
    },
}
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([1.0, 2.5, "a", "ü", " a", "1", "1.0", "true", [1]])
)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "region": VALUES,
        "count": VALUES,
        "dry": VALUES,
        "deep": st.fixed_dictionaries({}, optional={"k": VALUES}) | VALUES,
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["mcp-param-region", "mcp-param-count", "mcp-param-dry", "mcp-param-k", "mcp-param-other"]),
    st.sampled_from(
        ["a", "1", "1.0", "01", "2.5", "1e0", "true", "True", "=?base64?w7w=?=", "=?base64?IGE=?=", "=?base64?!?="]
    ),
)


def check(arguments: dict[str, Any], headers: dict[str, str]) -> str | None:
    fields = {name.lower().encode(): value.encode("latin-1") for name, value in headers.items()}
    return disagreement(mirrors(SCHEMA), arguments, fields, frozenset())


@settings(max_examples=300)
@given(ARGUMENTS, HEADERS)
def test_any_headers_are_judged_as_the_sdk_judges_them(arguments: dict[str, Any], headers: dict[str, str]) -> None:
    assert (check(arguments, headers) is None) == (validate_mcp_param_headers(SCHEMA, arguments, headers) is None)


@settings(max_examples=100)
@given(ARGUMENTS)
def test_what_the_sdk_sends_is_accepted(arguments: dict[str, Any]) -> None:
    assert check(arguments, mcp_param_headers(x_mcp_header_map(SCHEMA), arguments)) is None


@settings(max_examples=200)
@given(st.text() | st.from_regex(r"=\?base64\?[A-Za-z0-9+/=!]{0,8}\?=", fullmatch=True))
def test_values_are_wrapped_and_unwrapped_as_the_sdk_does(value: str) -> None:
    assert decode_value(value) == decode_header_value(value)
    assert encode_value(value) == encode_header_value(value)
    assert decode_value(encode_value(value)) == value


@pytest.mark.promise("headers-match-body")
def test_a_mirror_said_twice_is_refused() -> None:
    fields = {b"mcp-param-region": b"a,a"}
    assert disagreement(mirrors(SCHEMA), {"region": "a,a"}, fields, frozenset({b"mcp-param-region"})) is not None


@pytest.mark.parametrize(
    "annotated",
    [
        {"type": "number", "x-mcp-header": "A"},
        {"type": "string", "x-mcp-header": "A b"},
        {"type": "string", "x-mcp-header": 7},
        {"x-mcp-header": "A"},
    ],
)
def test_one_wrong_annotation_voids_them_all(annotated: dict[str, Any]) -> None:
    good = {"type": "string", "x-mcp-header": "Good"}
    assert mirrors({"properties": {"good": good, "bad": annotated}}) == ()
    assert mirrors({"properties": {"good": good, "again": {"type": "string", "x-mcp-header": "gOOD"}}}) == ()


@pytest.mark.parametrize("kind", [["string", "null"], {"a": 1}, 7, None, "object"])
def test_an_annotation_beside_any_other_type_voids_the_mirrors_and_breaks_nothing(kind: Any) -> None:
    assert mirrors({"type": "object", "properties": {"a": {"type": kind, "x-mcp-header": "A"}}}) == ()


def test_a_number_of_any_length_in_a_header_is_compared_and_breaks_nothing() -> None:
    assert check({"count": 1}, {"Mcp-Param-Count": "1" * 10_000}) is not None
