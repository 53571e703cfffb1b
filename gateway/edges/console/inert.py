"""Untrusted text made harmless to look at: what would hide, reorder or imitate is spelled out."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from policies.plain import is_hidden, is_plain

SHOWN = 1_500
"""Characters of one value that a page shows at once; the rest opens on demand."""
MOST = 120_000
"""Characters that a page holds of one value at all; past it the command line shows them."""

_TOKEN = re.compile(r"\w+|\W+")


def inert(value: Any, *, marks: Iterable[Any] = (), most: int = SHOWN) -> Markup:
    """`value` as escaped text; anything but text as JSON. Where one of `marks` stands, blanks aside, it is marked."""
    text = text_of(value)
    shown, said, at = text[:most], Markup(), 0
    for first, last in _found(shown, map(text_of, marks)):
        said += _visible(shown[at:first]) + Markup("<mark>{}</mark>").format(_visible(shown[first:last]))
        at = last
    said += _visible(shown[at:])
    rest = len(text) - len(shown)
    return said + (Markup(' <em class="cut">and {:,} more characters</em>').format(rest) if rest else Markup())


def whole(value: Any) -> Markup:
    """All of `value`, as `inert` shows it, up to `MOST` characters."""
    return inert(value, most=MOST)


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _visible(text: str) -> Markup:
    return escape(text) if _is_clear(text) else Markup().join(_token(match[0]) for match in _TOKEN.finditer(text))


def _token(token: str) -> Markup:
    """A word, or what stands between two."""
    if _is_clear(token):
        return escape(token)
    if not any(map(is_hidden, token)) and not is_plain(token):
        return Markup('<b class="odd" title="signs that imitate others">{}</b>').format(token)
    return Markup().join(map(_character, token))


@lru_cache(maxsize=8192)
def _character(character: str) -> Markup:
    if is_hidden(character):
        return Markup('<b class="hidden">U+{:04X}</b>').format(ord(character))
    return escape(character)


def _is_clear(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _found(text: str, wanted: Iterable[str]) -> list[tuple[int, int]]:
    """Where each wanted text first stands, past case and blanks; in order, none inside another."""
    places = [place for place, character in enumerate(text) if not character.isspace()]
    bare = "".join(text[place].lower()[:1] for place in places)
    spans = []
    for one in wanted:
        sought = "".join(one.split()).lower()
        at = bare.find(sought) if len(sought) > 2 else -1
        if at >= 0:
            spans.append((places[at], places[at + len(sought) - 1] + 1))
    apart: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if not apart or first >= apart[-1][1]:
            apart.append((first, last))
    return apart
