"""Where a value was read: for the person's card and the log. It explains; it never authorises, and proves no absence.

Each argument is looked for in what the task has read, newest first: as it stands (past case, blanks, invisible and
compatibility characters), inside base64, hex or URL encoding, and, for bodies, by runs of four words. The work for one
call is bounded, whatever was read and whatever is looked for: it runs where decisions run.
"""

import base64
import binascii
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count, islice
from urllib.parse import unquote_to_bytes

from policies.jsonvalue import JSON, pointer
from policies.plain import is_hidden, visible

MAX_CHARS = 80_000
"""How much of what was read is looked through for one call.

A value, a list or an object counts as 32 characters at least; all count more the more is looked for.
"""
MAX_ARGUMENTS = 64
MAX_SOUGHT = 16_384
"""Characters of all arguments together that are looked for."""
MAX_ORIGINS = 3
"""How many places are named for one argument."""
MAX_DECODINGS = 2
"""How deep an encoding inside an encoding is undone."""
_MAX_NEEDLE = 8_192
_MAX_ENCODED = 16
_MAX_DECODED = 128
"""Runs of one text that are decoded."""
_MAX_TRIES = 16
"""Places of one text where a number is tried, if it stands in longer ones."""
_LEAST = 32
_FREE = 8
"""Passes over a text that count once."""
_CHUNK = 512
_SNIPPET = 160
_SHINGLE = 4
_SHORT = 4
"""A shorter value is only recognised where it is the whole field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One result the task has read; `body` may be the bare text of one that was cut."""

    server: str
    tool: str
    action: str
    body: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One place where an argument's value was read."""

    argument: str
    """JSON pointer into the call's arguments."""
    server: str
    tool: str
    action: str
    path: str
    """JSON pointer into the result."""
    how: str
    """`equal`, `part`, `encoded` or `words`."""
    snippet: str
    """The sentence around it, what cannot be seen written out."""


def trace(arguments: Iterable[tuple[str, JSON]], results: Iterable[Past]) -> list[Origin]:
    """Where the values of `arguments` (pointer, value) occur in `results`, which come newest first.

    Stops when `MAX_CHARS` were looked through or every argument has `MAX_ORIGINS` places.
    """
    needles = list(_needles(arguments))
    origins: list[Origin] = []
    left = MAX_CHARS
    for past in results:
        for steps, text, cost in _texts(past.body, left):
            if left <= 0 or not needles:
                return origins
            weight = 1 + sum(needle.passes for needle in needles) // _FREE
            hay = _Hay(text[: left // weight])
            left -= cost * weight
            for needle in needles if text else ():
                if (hit := needle.find(hay)) is not None:
                    how, snippet = hit
                    found = Origin(
                        argument=needle.path,
                        server=past.server,
                        tool=past.tool,
                        action=past.action,
                        path=pointer(*steps),
                        how=how,
                        snippet=snippet,
                    )
                    origins.append(found)
                    needle.found += 1
            needles = [needle for needle in needles if needle.found < MAX_ORIGINS]
        if left <= 0:
            break
    return origins


def _needles(arguments: Iterable[tuple[str, JSON]]) -> Iterator["_Needle"]:
    left = MAX_SOUGHT
    for path, value in islice(arguments, MAX_ARGUMENTS):
        if text := _text_of(value)[: min(left, _MAX_NEEDLE)]:
            left -= len(text)
            yield _Needle(path, text)


class _Hay:
    """One text that was read, in the shape in which values are compared, with the way back to where they stood."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = _comparable(text)
        self.decoded = [_comparable(inner) for inner in islice(_decodings(text), _MAX_DECODED)]

    def place(self, at: int) -> int:
        """Where the character `at` of `plain` stood."""
        chunk = bisect_right(self._chunks, at) - 1
        at -= self._chunks[chunk]
        start = place = chunk * _CHUNK
        for place in range(start, len(self.text)):
            at -= len(_comparable(self.text[place]))
            if at < 0:
                break
        return place

    @cached_property
    def _chunks(self) -> list[int]:
        """How much of `plain` comes before each chunk of the text."""
        starts = range(0, len(self.text), _CHUNK)
        return [0, *accumulate(len(_comparable(self.text[start : start + _CHUNK])) for start in starts)][:-1]

    @cached_property
    def runs(self) -> dict[tuple[str, ...], int]:
        """Every run of four words, with the number of its first word."""
        return dict(zip(_runs(self.text), count()))

    def word(self, number: int) -> int:
        """Where a word starts."""
        return next(islice(_WORD.finditer(self.text), number, None)).start()

    def snippet(self, start: int, end: int) -> str:
        """The sentence around text[start:end]."""
        left, right = self.text[max(start - _SNIPPET, 0) : start], self.text[end : end + _SNIPPET]
        before = max((left.rfind(mark) + len(mark) for mark in _ENDS if mark in left), default=0)
        after = min((right.find(mark) + 1 for mark in _ENDS if mark in right), default=len(right))
        whole = self.text[start : min(end, start + 2 * _SNIPPET)]
        return visible((left[before:] + whole + right[:after]).strip())


class _Needle:
    """One argument's value, in every shape in which it is looked for."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.found = 0
        self.plain = _comparable(text)
        decoded = (_comparable(inner) for inner in islice(_decodings(text), _MAX_ENCODED))
        self.encoded = [inner for inner in decoded if len(inner) >= _SHORT]
        self.shingles = frozenset(_runs(text))
        self.passes = 1 + len(self.encoded) + 8 * bool(self.shingles)
        """How often a text is gone through for it."""

    def find(self, hay: _Hay) -> tuple[str, str] | None:
        """How and where it stands in `hay`: (how, snippet)."""
        if self.plain and self.plain == hay.plain:
            return "equal", hay.snippet(0, len(hay.text))
        if len(self.plain) >= _SHORT and (at := self._place(hay)) is not None:
            return "part", hay.snippet(*at)
        for inner in self.encoded:
            if (start := hay.plain.find(inner)) >= 0:
                return "encoded", hay.snippet(hay.place(start), hay.place(start + len(inner) - 1) + 1)
        if len(self.plain) >= _SHORT and any(self.plain in inner for inner in hay.decoded):
            return "encoded", hay.snippet(0, min(len(hay.text), _SNIPPET))
        if self.shingles and (shared := self.shingles & hay.runs.keys()):
            start = hay.word(min(hay.runs[words] for words in shared))
            return "words", hay.snippet(start, start + 1)
        return None

    def _place(self, hay: _Hay) -> tuple[int, int] | None:
        """Where it stands as a part; a number does not stand inside a longer one."""
        start = hay.plain.find(self.plain)
        if start >= 0 and self.plain.isdigit():
            return self._number_place(hay, start)
        return None if start < 0 else self._span(hay, start)

    def _number_place(self, hay: _Hay, start: int) -> tuple[int, int] | None:
        alone = re.compile(rf"(?<!\d){self.plain}(?!\d)")
        if match := alone.search(hay.text):
            return match.span()
        if match := alone.search(hay.plain):
            return self._span(hay, match.start())
        for _ in range(_MAX_TRIES):  # beside other digits once blanks are gone: was there a blank?
            if start < 0:
                return None
            first, last = self._span(hay, start)
            around = hay.text[max(first - 1, 0) : first] + hay.text[last : last + 1]
            if not any(character.isdigit() for character in around):
                return first, last
            start = hay.plain.find(self.plain, start + 1)
        return None

    def _span(self, hay: _Hay, start: int) -> tuple[int, int]:
        return hay.place(start), hay.place(start + len(self.plain) - 1) + 1


_ENDS = (". ", "! ", "? ", "\n")
_WORD = re.compile(r"\w+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_PERCENT = re.compile(r"(?<![^\s%])[^\s%]*(?:%[0-9a-fA-F]{2}[^\s%]*)+")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){6,}")


def _text_of(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def _texts(body: JSON, most: int) -> Iterator[tuple[tuple[str | int, ...], str, int]]:
    """Every value with its steps, its text (empty where it has none) and what looking at it costs, up to `most`."""
    stack: list[tuple[tuple[str | int, ...], JSON]] = [((), body)]
    room = most // _LEAST
    while stack:
        steps, value = stack.pop()
        text, keys = _text_of(value), 0
        inside: Iterable[tuple[str | int, JSON]] = ()
        if isinstance(value, dict):
            inside, keys = value.items(), sum(map(len, value))
        elif isinstance(value, list):
            inside = enumerate(value)
        before = len(stack)
        stack.extend(((*steps, step), inner) for step, inner in islice(inside, room))
        room -= len(stack) - before
        yield steps, text, max(len(text) + keys, _LEAST)


def _comparable(text: str) -> str:
    """`text` without case, blanks, invisible characters and compatibility forms; character by character the same."""
    if not text.isascii():
        hidden = {ord(character): None for character in set(text) if is_hidden(character)}
        text = unicodedata.normalize("NFKD", text.translate(hidden) if hidden else text).casefold()
    return "".join(text.lower().split())


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = [word.casefold() for word in _WORD.findall(text)]
    return zip(*(words[offset:] for offset in range(_SHINGLE)), strict=False)


def _decodings(text: str, depth: int = MAX_DECODINGS) -> Iterator[str]:
    """What `text` or a run in it says once decoded, and once more; printable text only."""
    if depth == 0:
        return
    for match in _PERCENT.finditer(text) if "%" in text else ():
        yield from _printable(unquote_to_bytes(match[0]), depth)
    for match in _BASE64.finditer(text):
        yield from _printable(_base64(match[0]), depth)
    for match in _HEX.finditer(text):
        yield from _printable(bytes.fromhex(match[0]), depth)


def _base64(run: str) -> bytes:
    packed = run.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4))
    except binascii.Error:
        return b""


def _printable(data: bytes, depth: int) -> Iterator[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    if text and all(character.isprintable() or character in "\n\t" for character in text):
        yield text
        yield from _decodings(text, depth - 1)
