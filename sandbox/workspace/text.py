"""Two contents as lines of a unified diff, where both are text of a size that a person reads."""

import difflib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sandbox.workspace.difference import Change
from sandbox.workspace.entry import Entry, Kind
from sandbox.workspace.staging import Staged
from sandbox.workspace.tree import folder_of, open_file, opened

MAX_TEXT_BYTES: Final = 256 << 10
"""A longer file is named by size and digest."""
MAX_PAIRS: Final = 1_000_000
"""Lines times lines that are matched one by one; past it everything between the first and the last change is one."""


def unified(staged: Staged, change: Change) -> tuple[str, ...] | None:
    """The change of a file in lines. None: it is no text, too long, or is being changed while it is looked at."""
    if change.kind is not Kind.FILE:
        return None
    before = _content(staged.original, change.before)
    after = _content(staged.copy, change.after)
    return None if before is None or after is None else tuple(_lines(_split(before), _split(after)))


def _content(folder: Path, entry: Entry | None) -> str | None:
    """The text whose digest the entry has; empty where there is no entry."""
    if entry is None:
        return ""
    if entry.size > MAX_TEXT_BYTES:
        return None
    try:
        with opened(folder) as root, folder_of(root, entry.path) as (parent, name), open_file(parent, name) as file:
            data = os.read(file, MAX_TEXT_BYTES + 1)
        if hashlib.sha256(data).hexdigest() != entry.digest or b"\0" in data:
            return None
        return data.decode()
    except (OSError, UnicodeDecodeError):
        return None


def _split(text: str) -> list[str]:
    """Lines as programs count them: by line feeds alone."""
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], lines[-1] + _UNENDED]


_UNENDED: Final = "\n\\ No newline at end of file"


def _lines(before: list[str], after: list[str]) -> Iterator[str]:
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    if (len(before) - start - end) * (len(after) - start - end) <= MAX_PAIRS:
        said = list(difflib.unified_diff(before, after, lineterm=""))[2:]  # without the two lines of names
    else:
        old, new = before[start : len(before) - end], after[start : len(after) - end]
        header = f"@@ -{start + 1},{len(old)} +{start + 1},{len(new)} @@"
        said = [header, *(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    for line in said:
        yield from line.split("\n")


def _common(one: list[str], other: list[str]) -> int:
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
