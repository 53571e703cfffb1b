"""The leaf format is for good: these bytes may never change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import leaf as leaves

COMMITMENT = bytes(range(32))
PLAIN = (
    b'{"commitment":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",'
    b'"id":"evt_1","kind":"decision","time":1700000000250000,"v":1}'
)
FULL = {
    "approver": "MCowBQYDK2VwAyEA",
    "call": "ab" * 32,
    "card": "cd" * 32,
    "commitment": "00" * 32,
    "id": "evt_2",
    "kind": "approval.decided",
    "level": "webauthn",
    "not_sent": True,
    "signature": "c2lnbmF0dXJl",
    "started": {"command": "ef" * 32, "guarantees": ["filesystem", "network"], "sandbox": "standard"},
    "time": 0,
    "v": 1,
}


def spelled(fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_a_leaf_of_version_1_is_spelled_so() -> None:
    leaf = leaves.encode(commitment=COMMITMENT, id="evt_1", kind="decision", micros=1_700_000_000_250_000)
    assert leaf == PLAIN
    assert leaves.decode(PLAIN)["time"] == leaves.micros(1_700_000_000.25)


def test_a_leaf_says_in_the_clear_that_nothing_was_sent() -> None:
    leaf = leaves.encode(commitment=COMMITMENT, id="evt_1", kind="effect.outcome", micros=1, not_sent=True)
    assert leaves.decode(leaf)["not_sent"] is True
    assert b'"not_sent":true,' in leaf


def test_the_fields_for_what_comes_later_are_readable_today() -> None:
    assert leaves.decode(spelled(FULL)) == FULL


@given(id=st.text(min_size=1), kind=st.text(min_size=1), micros=st.integers(0, 2**53))
def test_what_is_encoded_is_decoded(id: str, kind: str, micros: int) -> None:
    leaf = leaves.encode(commitment=COMMITMENT, id=id, kind=kind, micros=micros)
    fields = leaves.decode(leaf)
    assert (fields["id"], fields["kind"], fields["time"]) == (id, kind, micros)


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "nested too deep"),
        (PLAIN.replace(b'"v":1', b'"v":2'), "version 2"),
        (PLAIN + b" ", "canonical"),
        (PLAIN.replace(b'"id"', b'"id" '), "canonical"),
        (PLAIN.replace(b'"evt_1"', b'"\\u0065vt_1"'), "canonical"),
        (PLAIN.replace(b'"kind":"decision",', b""), "lacks kind"),
        (PLAIN.replace(b"0001", b"zz01"), "commitment is malformed"),
        (PLAIN.replace(b'"decision"', b'""'), "kind is malformed"),
        (PLAIN.replace(b'"decision"', b"7"), "kind is malformed"),
        (PLAIN.replace(b"1700000000250000", b"1.5"), "time is malformed"),
        (PLAIN.replace(b"1700000000250000", b"true"), "time is malformed"),
        (PLAIN.replace(b"1700000000250000", b"9" * 400), "time is malformed"),
        (spelled({**FULL, "extra": 1}), "unknown field 'extra'"),
        (spelled({**FULL, "not_sent": False}), "not_sent is malformed"),
        (spelled({**FULL, "started": {"command": "ef" * 32}}), "started is malformed"),
        (spelled({**FULL, "started": []}), "started is malformed"),
        (spelled({**FULL, "signature": "a b"}), "signature is malformed"),
        (spelled({**FULL, "id": "e" * 70_000}), "canonical"),
    ],
)
def test_anything_else_is_no_leaf(leaf: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        leaves.decode(leaf)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{}", "members of version 1"),
        (b"null", "not a JSON object"),
        (spelled({**dict.fromkeys(leaves.NAMES, ""), "body": {}, "task": 1}), "task is not a string"),
    ],
)
def test_a_payload_has_the_names_and_a_body(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        leaves.names(payload)


def test_a_body_is_an_object() -> None:
    with pytest.raises(ValueError, match="not an object"):
        leaves.body(spelled({"body": 1}))
