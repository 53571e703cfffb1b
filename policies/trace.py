"""Where a value was read: for the person's card and the log. It explains; it never authorises, and proves no absence.

Each argument is looked for in what the task has read, newest first: as it stands (past case, blanks, invisible and
compatibility characters), inside base64, hex or URL encoding, and, for bodies, by runs of four words.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from urllib.parse import unquote_to_bytes

from policies.jsonvalue import JSON, pointer
from policies.plain import is_hidden, visible

MAX_CHARS = 300_000
"""How much of what was read is looked through for one call; a value counts as 16 characters at least."""
MAX_ARGUMENTS = 64
MAX_ORIGINS = 3
"""How many places are named for one argument."""
MAX_DECODINGS = 2
"""How deep an encoding inside an encoding is undone."""
_MAX_NEEDLE = 16_384
_MAX_ENCODED = 16
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
    needles = [_Needle(path, value) for path, value in islice(arguments, MAX_ARGUMENTS) if _text_of(value)]
    origins: list[Origin] = []
    left = MAX_CHARS
    for past in results:
        for path, text in _texts(past.body):
            if left <= 0 or not needles:
                return origins
            hay = _Hay(text[:left])
            left -= max(len(text), 16)
            for needle in needles:
                if (hit := needle.find(hay)) is not None:
                    how, snippet = hit
                    found = Origin(
                        argument=needle.path,
                        server=past.server,
                        tool=past.tool,
                        action=past.action,
                        path=path,
                        how=how,
                        snippet=snippet,
                    )
                    origins.append(found)
                    needle.found += 1
            needles = [needle for needle in needles if needle.found < MAX_ORIGINS]
    return origins


class _Hay:
    """One text that was read, in the shape in which values are compared, with the way back to where they stood."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = _comparable(text)
        self.decoded = [_comparable(inner) for inner in _decodings(text)]

    @cached_property
    def places(self) -> list[int]:
        """Where each character of `plain` stood."""
        return [place for place, character in enumerate(self.text) for _ in _comparable(character)]

    @cached_property
    def shingles(self) -> dict[tuple[str, ...], int]:
        """Every run of four words, with where it starts."""
        return _shingles(self.text)

    def snippet(self, start: int, end: int) -> str:
        """The sentence around text[start:end]."""
        before = max((self.text.rfind(mark, 0, start) + len(mark) for mark in _ENDS if mark in self.text), default=0)
        after = min((at + 1 for mark in _ENDS if (at := self.text.find(mark, end)) >= 0), default=len(self.text))
        first, last = max(before, start - _SNIPPET, 0), min(after, end + _SNIPPET)
        return visible(self.text[first:last].strip())


class _Needle:
    """One argument's value, in every shape in which it is looked for."""

    def __init__(self, path: str, value: JSON) -> None:
        self.path = path
        self.found = 0
        text = _text_of(value)[:_MAX_NEEDLE]
        self.plain = _comparable(text)
        decoded = (_comparable(inner) for inner in islice(_decodings(text), _MAX_ENCODED))
        self.encoded = [inner for inner in decoded if len(inner) >= _SHORT]
        self.shingles = _shingles(text)

    def find(self, hay: _Hay) -> tuple[str, str] | None:
        """How and where it stands in `hay`: (how, snippet)."""
        if self.plain and self.plain == hay.plain:
            return "equal", hay.snippet(0, len(hay.text))
        if len(self.plain) >= _SHORT and (at := self._place(hay)) is not None:
            return "part", hay.snippet(*at)
        for inner in self.encoded:
            if (start := hay.plain.find(inner)) >= 0:
                return "encoded", hay.snippet(hay.places[start], hay.places[start + len(inner) - 1] + 1)
        if len(self.plain) >= _SHORT and any(self.plain in inner for inner in hay.decoded):
            return "encoded", hay.snippet(0, min(len(hay.text), _SNIPPET))
        if self.shingles and (shared := self.shingles.keys() & hay.shingles.keys()):
            start = min(hay.shingles[words] for words in shared)
            return "words", hay.snippet(start, start + 1)
        return None

    def _place(self, hay: _Hay) -> tuple[int, int] | None:
        """Where it stands as a part; a number does not stand inside a longer one."""
        start = hay.plain.find(self.plain)
        while start >= 0:
            first, last = hay.places[start], hay.places[start + len(self.plain) - 1] + 1
            around = hay.text[max(first - 1, 0) : first] + hay.text[last : last + 1]
            if not (self.plain.isdigit() and any(character.isdigit() for character in around)):
                return first, last
            start = hay.plain.find(self.plain, start + 1)
        return None


_ENDS = (". ", "! ", "? ", "\n")
_WORD = re.compile(r"\w+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_PERCENT = re.compile(r"(?<![^\s%])[^\s%]*(?:%[0-9a-fA-F]{2}[^\s%]*)+")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){6,}")


def _text_of(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def _texts(body: JSON) -> Iterator[tuple[str, str]]:
    """Every value that reads as text, with its pointer."""
    stack: list[tuple[tuple[str | int, ...], JSON]] = [((), body)]
    while stack:
        steps, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*steps, key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            stack.extend(((*steps, place), inner) for place, inner in enumerate(value))
        elif text := _text_of(value):
            yield pointer(*steps), text


def _comparable(text: str) -> str:
    """`text` without case, blanks, invisible characters and compatibility forms."""
    if not text.isascii():
        text = "".join(map(_folded, text))
    return "".join(text.lower().split())


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    return "" if is_hidden(character) else unicodedata.normalize("NFKC", character).casefold()


def _shingles(text: str) -> dict[tuple[str, ...], int]:
    words = [(match[0].casefold(), match.start()) for match in _WORD.finditer(text)]
    runs = zip(*(words[offset:] for offset in range(_SHINGLE)), strict=False)
    return {tuple(word for word, _ in run): run[0][1] for run in runs}


def _decodings(text: str, depth: int = MAX_DECODINGS) -> list[str]:
    """What `text` or a run in it says once decoded, and once more; printable text only."""
    if depth == 0:
        return []
    found: list[str] = []
    for match in _PERCENT.finditer(text) if "%" in text else ():
        found.extend(_printable(unquote_to_bytes(match[0])))
    for match in _BASE64.finditer(text):
        found.extend(_printable(_base64(match[0])))
    for match in _HEX.finditer(text):
        found.extend(_printable(bytes.fromhex(match[0])))
    return found + [inner for outer in found for inner in _decodings(outer, depth - 1)]


def _base64(run: str) -> bytes:
    packed = run.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4))
    except binascii.Error:
        return b""


def _printable(data: bytes) -> list[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return []
    return [text] if text and all(character.isprintable() or character in "\n\t" for character in text) else []
