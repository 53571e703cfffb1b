"""Our Markdown pages as tests read them: sections by heading, and the tables in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_HEADING = re.compile(r"(#+) (.+)")
_CELL = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, up to the next of any level."""

    title: str
    """Without its code marks."""
    level: int
    text: str

    def rows(self) -> list[list[str]]:
        """The cells of every table row, without heads and rules."""
        found: list[list[str]] = []
        lines = self.text.splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            if not line.startswith("|") or re.fullmatch(r"[|\-: ]+", line) or not before.startswith("|"):
                continue
            found.append([cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]])
        return found

    def names(self) -> list[str]:
        """The code in the first cell of every row."""
        return [name for row in self.rows() for name in _CODE.findall(row[0])[:1]]


def sections(page: Path) -> Iterator[Section]:
    """The sections of a page; a `#` in a fenced block is no heading."""
    title, level, lines, fenced = "", 0, list[str](), False
    for line in page.read_text("utf-8").splitlines():
        fenced ^= line.startswith("```")
        if not fenced and (found := _HEADING.fullmatch(line)):
            yield Section(title, level, "\n".join(lines))
            title, level, lines = found[2].replace("`", ""), len(found[1]), []
        else:
            lines.append(line)
    yield Section(title, level, "\n".join(lines))
