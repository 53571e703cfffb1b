"""What a leaf says, version 1: decided for good in `docs/decisions/0001-leaf-format.md`.

A leaf is one line of canonical JSON (ASCII, sorted keys, no white space). It says in the clear what a stranger needs
and what can never hurt a person; who, what and where stand in the payload, to which it only commits:

    commitment = SHA-256(nonce || payload)

This file needs nothing but the standard library, so that a verifier can be small.
"""

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

VERSION = 1
MAX_BYTES = 65_535
"""An entry bundle of tlog-tiles gives a leaf's length in 16 bits."""

NONCE_BYTES = 32

NAMES = ("task", "agent", "action", "server", "tool", "verdict", "ticket")
"""What the payload says of an event besides its body, and what people query by."""

BODY = "body"
"""The member of the payload that holds what the event itself has to say."""


def encode(*, commitment: bytes, id: str, kind: str, micros: int, not_sent: bool = False) -> bytes:
    """A leaf's bytes. Those fields of version 1 that no kind of event fills yet are left out, as they always may be."""
    sent = '"not_sent":true,' if not_sent else ""
    return (
        f'{{"commitment":"{commitment.hex()}","id":{quoted(id)},"kind":{quoted(kind)},'
        f'{sent}"time":{micros},"v":{VERSION}}}'
    ).encode()


def decode(leaf: bytes) -> dict[str, Any]:
    """The fields of a leaf.

    Raises:
        ValueError: it is not a leaf of a version that this code knows, or not in the one spelling that a leaf has.
    """
    fields = _object(leaf)
    if fields.get("v") != VERSION:
        raise ValueError(f"leaf version {fields.get('v')!r} is not known here")
    if len(leaf) > MAX_BYTES or json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() != leaf:
        raise ValueError("the leaf is not in canonical form")
    if missing := _REQUIRED - fields.keys():
        raise ValueError(f"the leaf lacks {', '.join(sorted(missing))}")
    for name, value in fields.items():
        if name not in _FIELDS:
            raise ValueError(f"the leaf has an unknown field {name!r}")
        if not _FIELDS[name](value):
            raise ValueError(f"the leaf's {name} is malformed")
    return fields


def commitment(nonce: bytes, payload: bytes) -> bytes:
    return sha256(nonce + payload).digest()


def is_not_sent(kind: str, verdict: str) -> bool:
    """Whether the leaf says in the clear that nothing left the gateway."""
    return kind == "effect.outcome" and verdict == "not_sent"


def micros(time: float) -> int:
    """Unix seconds as the whole microseconds that a leaf holds."""
    return round(time * 1_000_000)


def seconds(micros: int) -> float:
    """A leaf's time as the column that people query by."""
    return micros / 1_000_000


def names(payload: bytes) -> dict[str, str]:
    """What a payload says of its event, by name.

    Raises:
        ValueError: it is not a payload.
    """
    document = _object(payload)
    if document.keys() != {*NAMES, BODY}:
        raise ValueError("the payload does not have the members of version 1")
    for name in NAMES:
        if not isinstance(document[name], str):
            raise ValueError(f"the payload's {name} is not a string")
    return {name: document[name] for name in NAMES}


def body(payload: bytes) -> dict[str, Any]:
    """What the event itself has to say."""
    found = _object(payload)[BODY]
    if not isinstance(found, dict):
        raise ValueError("the payload's body is not an object")
    return found


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _matches(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


_TEXT = _matches(r"[\x21-\x7e]{1,1024}")
_DIGEST = _matches(r"[0-9a-f]{64}")


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 63


def _is_start(value: object) -> bool:
    """`{"command": digest, "guarantees": [text], "sandbox": text}`"""
    return (
        isinstance(value, Mapping)
        and value.keys() == {"command", "guarantees", "sandbox"}
        and _DIGEST(value["command"])
        and _TEXT(value["sandbox"])
        and isinstance(value["guarantees"], list)
        and all(_TEXT(guarantee) for guarantee in value["guarantees"])
    )


_REQUIRED = frozenset({"commitment", "id", "kind", "time", "v"})
_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "commitment": _DIGEST,
    "id": _matches(r"(?s).+"),
    "kind": _matches(r"(?s).+"),
    "time": _is_whole,
    "v": _is_whole,
    "approver": _TEXT,
    "call": _DIGEST,
    "card": _DIGEST,
    "level": _TEXT,
    "not_sent": lambda value: value is True,
    "signature": _TEXT,
    "started": _is_start,
}
"""Every field that a leaf of version 1 may have, and what its value must be."""
