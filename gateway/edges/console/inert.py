"""Untrusted text made harmless to look at: what would hide, reorder or imitate is spelled out."""

import json
import unicodedata
from typing import Any

from markupsafe import Markup, escape

MAX_SHOWN = 4_000
"""Characters of one value on a page; the rest is counted."""

_HIDDEN = frozenset({"Cf", "Cc", "Co", "Cs", "Cn", "Zl", "Zp"})


def inert(value: Any) -> Markup:
    """`value` as escaped text, with control, format and bidi characters shown as `U+XXXX`; anything but text as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown, rest = text[:MAX_SHOWN], len(text) - MAX_SHOWN
    parts = [_visible(character) for character in shown]
    if rest > 0:
        parts.append(Markup(" <em>and {} more characters</em>").format(rest))
    return Markup("").join(parts)


def _visible(character: str) -> Markup:
    if character not in "\n\t" and unicodedata.category(character) in _HIDDEN:
        return Markup('<b class="hidden">U+{:04X}</b>').format(ord(character))
    if ord(character) > 127 and unicodedata.normalize("NFKC", character) != character:
        return Markup('<b class="odd">{}</b>').format(character)
    return escape(character)
