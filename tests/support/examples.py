"""The examples of our pages, found by Sybil: fenced blocks by language, wherever they are indented."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from support.pages import REPOSITORY

PAGES = tuple(sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")]))


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    """Every block of a language in every page."""
    found: list[Block] = []
    for page in PAGES:

        def keep(example: Example, page: Path = page) -> None:
            found.append(Block(page, example.line, dedent(example.parsed)))

        document = Document.parse(str(page), CodeBlockParser(language=language, evaluator=keep))
        for example in document.examples():
            example.evaluate()
    return found


def command_lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, as words; comments are not among them."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if words := shlex.split(line, comments=True):
            yield words
