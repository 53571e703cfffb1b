"""What a holder may append to a token: checks whose cost is bounded before any of them runs.

The library looks at its clock only between rules, so one join over the arguments of a call, or one closure in another,
would stop the gateway for as long as its author likes. So an appended block holds checks and nothing else; in each, at
most one predicate may begin with a variable; no regular expression, no closure within a closure, no foreign key.

The wire format is read as biscuit's `schema.proto` (github.com/eclipse-biscuit/biscuit) has it, strictly.
"""

import base64
from collections.abc import Iterator

MAX_CHECKS = 16
"""In all appended blocks together."""
MAX_OPERATIONS = 200
"""In one check's expressions."""

_BLOCKS, _SIGNED_BLOCK, _EXTERNAL = 3, 1, 4
_SYMBOLS, _CONTEXT, _VERSION, _CHECKS = 1, 2, 3, 6
_QUERIES, _KIND = 1, 2
_HEAD, _BODY, _EXPRESSIONS = 1, 2, 3
_TERMS, _VARIABLE = 2, 1
_OPERATIONS, _BINARY, _CLOSURE, _PARAMETERS, _INNER = 1, 3, 4, 1, 2
_REGEX = 8


def refused_block(credential: str) -> str:
    """Why a token that the library took has a block that we do not; empty when all are taken."""
    try:
        token = list(_fields(base64.urlsafe_b64decode(credential + "=" * (-len(credential) % 4))))
        checks = [check for number, block in token if number == _BLOCKS for check in _checks(_bytes(block))]
        if len(checks) > MAX_CHECKS:
            return f"more than {MAX_CHECKS} checks were appended"
        for check in checks:
            _bounded_check(check)
    except _Unbounded as unbounded:
        return str(unbounded)
    except (ValueError, LookupError):
        return "an appended block cannot be read"
    return ""


class _Unbounded(Exception):
    """A block that could cost more than we give it."""


def _checks(signed: bytes) -> Iterator[bytes]:
    inner = dict(_fields(signed))
    if _EXTERNAL in inner:
        raise _Unbounded("blocks signed by others are not taken yet")
    for number, value in _fields(_bytes(inner[_SIGNED_BLOCK])):
        if number == _CHECKS:
            yield _bytes(value)
        elif number not in (_SYMBOLS, _CONTEXT, _VERSION):
            raise _Unbounded("an appended block may hold checks only")


def _bounded_check(check: bytes) -> None:
    for number, query in _fields(check):
        if number == _KIND:
            continue
        if number != _QUERIES:
            raise ValueError
        _bounded_query(_bytes(query))


def _bounded_query(query: bytes) -> None:
    ranging = operations = 0
    for number, value in _fields(query):
        if number == _BODY:
            terms = [_bytes(term) for place, term in _fields(_bytes(value)) if place == _TERMS]
            ranging += bool(terms) and next(_fields(terms[0]), (_VARIABLE, 0))[0] == _VARIABLE
        elif number == _EXPRESSIONS:
            found = [_bytes(one) for place, one in _fields(_bytes(value)) if place == _OPERATIONS]
            operations += sum(_bounded_operation(one, inside=False) for one in found)
        elif number != _HEAD:
            raise _Unbounded("an appended check may not name whom it trusts")
    if ranging > 1:
        raise _Unbounded("an appended check may have one predicate that begins with a variable")
    if operations > MAX_OPERATIONS:
        raise _Unbounded("an appended check is too long")


def _bounded_operation(operation: bytes, *, inside: bool) -> int:
    """How many operations it is, its closure's own included."""
    count = 1
    for number, value in _fields(operation):
        if number == _BINARY and dict(_fields(_bytes(value))).get(1) == _REGEX:
            raise _Unbounded("an appended check may not use regular expressions")
        if number == _CLOSURE:
            closure = list(_fields(_bytes(value)))
            loops = any(place == _PARAMETERS for place, _ in closure)  # without any it is the right side of && or ||
            if loops and inside:
                raise _Unbounded("an appended check may not nest closures")
            inner = [_bytes(one) for place, one in closure if place == _INNER]
            count += sum(_bounded_operation(one, inside=inside or loops) for one in inner)
    return count


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise ValueError("expected a message")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a protobuf message; varints and length-delimited ones are all there are."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        match key & 7:
            case 0:
                yield key >> 3, value
            case 2:
                if at + value > len(message):
                    raise ValueError("cut short")
                yield key >> 3, message[at : at + value]
                at += value
            case _:
                raise ValueError("no such field")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("too long")
