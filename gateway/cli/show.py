"""What every command shares: its options, and how data is printed (a table for people, JSON with `--json`)."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

State: TypeAlias = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where the gateway's state lives.", show_default=False)
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The pratique.toml to read.", show_default=False)
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


TIMES = frozenset({"created", "expires", "decided", "time"})
"""Fields that hold Unix seconds."""


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2))  # ASCII: no control or bidi character of a server's reaches a terminal


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """The named columns of every row; whatever came from an agent or a server is shown inert."""
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")  # ids are for copying
    for row in rows:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    Console(file=sys.stdout).print(table)


def print_fields(document: Mapping[str, Any]) -> None:
    """One document, a line for each of its fields."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in document.items():
        table.add_row(key.replace("_", " "), _cell(key, value))
    Console(file=sys.stdout).print(table)


def inert(value: Any) -> Text:
    """A value as text without markup or terminal escapes."""
    return Text(plain(value))


def plain(value: Any) -> str:
    """A value on one line, in characters that can be seen: it cannot pretend to be a line of ours."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(
        letter if letter.isprintable() else _SHOWN.get(letter, "\N{REPLACEMENT CHARACTER}") for letter in text
    )


_SHOWN = {"\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": " "}


def _cell(column: str, value: Any) -> Text:
    if column in TIMES and isinstance(value, int | float):
        return Text(datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return inert(value)
