"""Headers that mirror the body (2026-07-28, "Transports"): an intermediary may route on them, so they must agree.

A tool's schema may ask by `x-mcp-header` that an argument be mirrored as `Mcp-Param-*`. Values that are not plain ASCII
travel as `=?base64?...?=`.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.jsonvalue import JSON, JSONObject

PARAM_PREFIX = b"mcp-param-"

_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A field's name (RFC 9110, 5.6.2)."""
_DECIMAL = re.compile(r"(-?[0-9]{1,64})(?:\.0+)?")
_TYPES = frozenset({"string", "integer", "boolean"})


@dataclass(frozen=True, slots=True)
class Mirror:
    """One argument that a tool wants mirrored."""

    path: tuple[str, ...]
    field: bytes
    """Lower case, as an HTTP server hands it out."""
    is_integer: bool


def encode_value(value: str) -> str:
    """A header's value that survives the way; wrapped unless it is plain."""
    if _PLAIN.fullmatch(value) and value == value.strip() and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str | None) -> str | None:
    """Its inverse; None for a wrapping that is damaged or not canonical, so that it never matches by accident."""
    wrapped = None if value is None else _SENTINEL.fullmatch(value)
    if wrapped is None:
        return value
    try:
        decoded = base64.b64decode(wrapped[1], validate=True)
        return decoded.decode() if base64.b64encode(decoded).decode() == wrapped[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def mirrors(schema: JSON) -> tuple[Mirror, ...]:
    """What an input schema wants mirrored: properties of properties only. One wrong annotation voids them all."""
    found: list[Mirror] = []
    waiting: list[tuple[tuple[str, ...], JSON]] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        properties = node.get("properties") if isinstance(node, dict) else None
        for name, child in properties.items() if isinstance(properties, dict) else ():
            waiting.append(((*path, name), child))
        if not isinstance(node, dict) or "x-mcp-header" not in node:
            continue
        token, kind = node["x-mcp-header"], node.get("type")
        if not path or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return ()
        if not isinstance(kind, str) or kind not in _TYPES:
            return ()
        found.append(Mirror(path, PARAM_PREFIX + token.lower().encode(), kind == "integer"))
    return tuple(found) if len({mirror.field for mirror in found}) == len(found) else ()


def disagreement(
    wanted: Sequence[Mirror], arguments: JSONObject, fields: Mapping[bytes, bytes], doubled: frozenset[bytes]
) -> str | None:
    """What is wrong with the first mirror that does not show its argument: both there and equal, or both absent."""
    for mirror in wanted:
        name, value, raw = mirror.field.decode(), _at(arguments, mirror.path), fields.get(mirror.field)
        if raw is not None and mirror.field in doubled:
            return f"{name} header appears more than once"
        shown = _rendered(value)
        if raw is None:
            if shown is not None:
                return f"{name} header is missing but its argument is present"
            continue
        said = decode_value(raw.decode("latin-1").strip())
        if shown is None or said is None or not _agree(mirror, value, shown, said):
            return f"{name} header does not match its argument"
    return None


def _agree(mirror: Mirror, value: JSON, shown: str, said: str) -> bool:
    """Integers compare as numbers (`42` is `42.0`), exactly; everything else as it is written."""
    decimal = _DECIMAL.fullmatch(said)
    if mirror.is_integer and decimal and not isinstance(value, str | bool) and value == int(value):
        return int(decimal[1]) == int(value)
    return shown == said


def _rendered(value: JSON) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _at(arguments: JSON, path: tuple[str, ...]) -> JSON:
    for step in path:
        arguments = arguments.get(step) if isinstance(arguments, dict) else None
    return arguments
