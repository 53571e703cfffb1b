"""Untrusted text made harmless to look at: what would hide, reorder or imitate is spelled out, what is looked for marked."""

import json
import re
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from policies.plain import is_hidden, is_plain

SHOWN = 1_500
"""Characters of one value that a page shows at once; the rest opens on demand."""
MOST = 120_000
"""Characters that a page holds of one value at all; past it the command line shows them."""

_TOKEN = re.compile(r"\w+|\W+")


def inert(value: Any, *, mark: Any = None, most: int = SHOWN) -> Markup:
    """`value` as escaped text; anything but text as JSON. Where `mark` stands in it, blanks aside, it is marked."""
    text = text_of(value)
    shown = text[:most]
    found = _find(shown, text_of(mark)) if mark is not None else None
    if found is None:
        said = _visible(shown)
    else:
        first, last = found
        said = (
            _visible(shown[:first])
            + Markup("<mark>{}</mark>").format(_visible(shown[first:last]))
            + _visible(shown[last:])
        )
    rest = len(text) - len(shown)
    return said + (Markup(' <em class="cut">and {:,} more characters</em>').format(rest) if rest else Markup())


def whole(value: Any) -> Markup:
    """All of `value`, as `inert` shows it, up to `MOST` characters."""
    return inert(value, most=MOST)


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _visible(text: str) -> Markup:
    return escape(text) if _is_clear(text) else Markup().join(_token(match[0]) for match in _TOKEN.finditer(text))


@lru_cache(maxsize=8192)
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


def _find(text: str, wanted: str) -> tuple[int, int] | None:
    """Where `wanted` stands in `text`, past case and blanks."""
    bare = "".join(wanted.split()).casefold()
    places = [place for place, character in enumerate(text) if not character.isspace()]
    at = "".join(text[place].lower()[:1] for place in places).find(bare) if len(bare) > 2 else -1
    return None if at < 0 else (places[at], places[at + len(bare) - 1] + 1)
