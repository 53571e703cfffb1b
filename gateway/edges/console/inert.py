"""Untrusted text made harmless to look at: what would hide, reorder or imitate is spelled out, what is looked for marked."""

import json
import re
from typing import Any

from markupsafe import Markup, escape

from policies.plain import is_hidden, is_plain

SHOWN = 1_500
"""Characters of one value that a page shows at once; the rest opens on demand."""
MOST = 300_000
"""Characters that a page holds of one value at all; past it the command line shows them."""

_TOKEN = re.compile(r"[\x20-\x7e\n\t]+|\w+|.", re.DOTALL)
"""Runs of ASCII that can be seen, words, and whatever is left, one by one."""


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
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return escape(text)
    return Markup().join(_token(match[0]) for match in _TOKEN.finditer(text))


def _token(token: str) -> Markup:
    if token.isascii() and (len(token) > 1 or token.isprintable() or token in "\n\t"):
        return escape(token)
    if not any(map(is_hidden, token)):
        if is_plain(token):
            return escape(token)
        return Markup('<b class="odd" title="letters that imitate others">{}</b>').format(token)
    return Markup().join(
        Markup('<b class="hidden">U+{:04X}</b>').format(ord(character)) if is_hidden(character) else escape(character)
        for character in token
    )


def _find(text: str, wanted: str) -> tuple[int, int] | None:
    """Where `wanted` stands in `text`, past case and blanks."""
    bare = "".join(wanted.split()).casefold()
    places = [place for place, character in enumerate(text) if not character.isspace()]
    at = "".join(text[place].lower()[:1] for place in places).find(bare) if len(bare) > 2 else -1
    return None if at < 0 else (places[at], places[at + len(bare) - 1] + 1)
