"""The body of a result, and text that spells it: only in a spelling that leaves a server nothing to say beside it.

White space, `1` for `1.0`, an escaped letter, a key beside a block's text: each could carry what the body does not
say. So text is taken for JSON in the usual layouts and no other, and repeats a body only value for value.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from policies.jsonvalue import JSON, JSONObject

_PLAIN_KEYS = frozenset({"type", "text"})
_TIGHT = (",", ":")


def body_of(result: JSONObject, most: int) -> JSON:
    """The structured content; without it the one text block that is JSON, up to `most` characters; else all blocks."""
    if result.get("structuredContent") is not None:
        return result["structuredContent"]
    content = result.get("content", [])
    text = _text_of(content[0]) if isinstance(content, list) and len(content) == 1 else None
    if text is not None and len(text) <= most and isinstance(parsed := _parsed(text), dict | list):
        return parsed
    return {"content": content}


def repeats(content: JSON, body: JSON, take: Callable[[int, int], None]) -> bool:
    """Whether the text beside a structured body says nothing that the body does not say.

    `take` is told what is looked at (values, characters), and raises where that is too much.
    """
    if not isinstance(content, list):
        return False
    whole = _encoded(body)
    parts: set[str] = set()
    for block in content:
        text = _text_of(block)
        if text is None:
            return False
        take(1, len(text))
        tight = _tight(text)
        if tight is not None and tight == whole:
            continue
        parsed = None if tight is None else _parsed(text)
        parts = parts or _parts(body)
        if _spelled(text if parsed is None else parsed) not in parts:
            return False
    return True


def is_for_people_only(content: JSON) -> bool:
    """Whether the server marked any block as not meant for a model."""
    blocks = content if isinstance(content, list) else []
    notes = [block.get("annotations") for block in blocks if isinstance(block, dict)]
    audiences = [note.get("audience") for note in notes if isinstance(note, dict)]
    return any(isinstance(audience, list) and "assistant" not in audience for audience in audiences)


def _text_of(block: JSON) -> str | None:
    """The text of a block that says nothing beside it; None for any other block."""
    if not isinstance(block, dict) or block.keys() != _PLAIN_KEYS or block["type"] != "text":
        return None
    text = block["text"]
    return text if isinstance(text, str) else None


def _parsed(text: str) -> JSON:
    """The JSON that `text` is; None when it is none, spelled oddly, or names a key twice (two readers, two values)."""
    tight = _tight(text)
    if tight is None:
        return None
    try:
        value = _decode(text)
        spelled = (_encode(value), _dumped(value, ensure_ascii=False), _dumped(value, ensure_ascii=True))
    except (ValueError, RecursionError, OverflowError):
        return None
    return value if tight in spelled else None


def _tight(text: str) -> bytes | None:
    """`text` without its white space; None when it is no JSON object or list in one of the usual layouts."""
    if not text.startswith(("{", "[")):
        return None
    try:
        raw = text.encode()
        tight = msgspec.json.format(raw, indent=-1)
        if raw == tight:
            return tight
        layout = (4 if text[2:6] == "    " else 2) if "\n" in text else 0  # 0: one line, a blank after each sign
        return tight if raw == msgspec.json.format(raw, indent=layout) else None
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is there twice")
    return entries


_decode = json.JSONDecoder(object_pairs_hook=_unique).decode
_encode = msgspec.json.Encoder().encode


def _encoded(body: JSON) -> bytes | None:
    try:
        return _encode(body)
    except (ValueError, OverflowError, RecursionError):
        return None


def _dumped(value: JSON, *, ensure_ascii: bool) -> bytes:
    return json.dumps(value, separators=_TIGHT, ensure_ascii=ensure_ascii).encode()


def _parts(body: JSON) -> set[str]:
    """The body, its members, and the items of its lists, each spelled."""
    parts = [body]
    if isinstance(body, dict):
        parts.extend(body.values())
        parts.extend(item for value in body.values() if isinstance(value, list) for item in value)
    return {_spelled(part) for part in parts}


def _spelled(value: JSON) -> str:
    """Equal for equal values of equal types: `1`, `1.0` and `true` are three."""
    return json.dumps(value, sort_keys=True)
