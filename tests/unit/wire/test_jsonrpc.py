"""Strict JSON-RPC: what is taken, what is refused, and that what was decided is what is sent."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.jsonrpc import (
    MAX_DEPTH,
    ErrorCode,
    Failure,
    Malformed,
    Notification,
    Request,
    Response,
    encode,
    parse,
)


def request(params: str = "{}", request_id: str = "1") -> bytes:
    return f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{params}}}'.encode()


def test_a_request_a_notification_a_result_and_an_error_are_told_apart() -> None:
    assert parse(request('{"a":1}', '"x"')) == Request("x", "tools/call", {"a": 1})
    assert parse(b'{"jsonrpc":"2.0","method":"ping"}') == Notification("ping", {})
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":{}}') == Response(1, {})
    failure = b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m","data":[1]}}'
    assert parse(failure) == Failure(None, -1, "m", [1])


@pytest.mark.parametrize("request_id", ["true", "1.0", "null", "[]", "{}", "9007199254740993", "1e3"])
def test_an_id_is_a_string_or_an_exact_integer(request_id: str) -> None:
    refused = parse(request(request_id=request_id))

    assert isinstance(refused, Malformed)
    assert (refused.code, refused.id) == (ErrorCode.INVALID_REQUEST, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"nope",
        b'{"jsonrpc":"1.0","id":1,"method":"a"}',
        b'{"id":1,"method":"a"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":""}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":null}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":[]}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":1,"error":"m"}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":true,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a"} {}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"a"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1e999}}',
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    assert isinstance(parse(body), Malformed)


@pytest.mark.promise("wire-surrogates")
@pytest.mark.parametrize("text", [r"\ud800", r"\udc00x", r"a\ud83d"])
def test_a_lone_surrogate_is_refused_while_parsing(text: str) -> None:
    assert isinstance(parse(request(f'{{"text":"{text}"}}')), Malformed)
    assert isinstance(parse(request(f'{{"{text}":1}}')), Malformed)


@pytest.mark.promise("wire-integers")
@pytest.mark.parametrize("number", ["9007199254740992", "-9007199254740992", "18446744073709551616"])
def test_an_integer_beyond_2_53_is_refused_in_what_an_agent_asks_and_kept_in_what_a_server_answers(number: str) -> None:
    refused = parse(request(f'{{"arguments":{{"n":[{number}]}}}}'))
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.id) == (ErrorCode.INVALID_PARAMS, 1)

    kept = parse(f'{{"jsonrpc":"2.0","id":1,"result":{{"n":{number}}}}}'.encode(), exact_integers=False)
    assert kept == Response(1, {"n": int(number)})
    assert number.encode() in encode(kept)


def test_long_digits_in_a_text_and_the_largest_exact_integer_pass() -> None:
    params = '{"iban":"12345678901234567890","n":9007199254740991}'
    assert parse(request(params)) == Request(1, "tools/call", {"iban": "12345678901234567890", "n": 9007199254740991})


@pytest.mark.promise("wire-depth")
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert isinstance(parse(request('{"a":' + "[" * depth + "]" * depth + "}")), Malformed)


def test_wide_is_not_deep() -> None:
    assert isinstance(parse(request('{"a":[' + "[]," * 500 + "[]]}")), Request)
    deepest = MAX_DEPTH - 2  # the message and its params are two levels
    assert isinstance(parse(request('{"a":' + "[" * deepest + "]" * deepest + "}")), Request)


@pytest.mark.promise("wire-last-key-wins")
def test_of_duplicate_keys_the_last_is_decided_on_and_sent() -> None:
    message = parse(request(r'{"to":"good","\u0074o":"evil"}'))

    assert message == Request(1, "tools/call", {"to": "evil"})
    assert b"good" not in encode(message)


scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@settings(max_examples=100)
@given(st.dictionaries(st.text(), values), st.text(max_size=9) | st.integers(-(2**53) + 1, 2**53 - 1))
def test_what_is_parsed_again_after_encoding_is_the_same(params: dict[str, object], request_id: str | int) -> None:
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "m", "params": params}, allow_nan=False)
    except ValueError:
        return  # infinities are no JSON
    message = parse(body.encode("utf-8", "surrogatepass"))
    if not isinstance(message, Malformed):
        assert parse(encode(message)) == message == Request(request_id, "m", params)


@settings(max_examples=200)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789.eE-\\udtrufalsn jonrpc', max_size=60).map(str.encode)
)
def test_no_bytes_raise(body: bytes) -> None:
    parse(body)
