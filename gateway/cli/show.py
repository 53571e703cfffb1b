"""What every command shares: its options, and how data is printed (a table for people, JSON with `--json`)."""

import json
import sys
from collections.abc import Mapping, Sequence
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


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """The named columns of every row; whatever came from an agent or a server is shown inert."""
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(inert(row.get(column)) for column in columns))
    wide = Console(file=sys.stdout)
    wide.print(table)


def inert(value: Any) -> Text:
    """A value as plain text: no markup, no terminal escapes, no line that pretends to be ours."""
    if value is None:
        return Text("-")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
