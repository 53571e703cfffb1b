"""`pratique image`: build root file systems for sandboxes, list and remove them. Needs no running gateway."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.show import Json, State, inert, plain, print_json
from gateway.errors import OperatorError
from gateway.settings import default_state
from sandbox.docker.images import leave
from sandbox.errors import SandboxError
from sandbox.images import Entry, Recipe, Store
from sandbox.images import build as build_image

app = typer.Typer(
    help="Images: root file systems with servers in them, for sandboxes.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("build")
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    *,
    base: Annotated[
        str | None,
        typer.Option(metavar="REF", help="REGISTRY/IMAGE@sha256:... or FILE.tar.", show_default="a Debian made here"),
    ] = None,
    npm: Annotated[list[str] | None, typer.Option(metavar="PACKAGE@VERSION", help="Install from npm.")] = None,
    pypi: Annotated[list[str] | None, typer.Option(metavar="PACKAGE==VERSION", help="Install from PyPI.")] = None,
    debian: Annotated[list[str] | None, typer.Option(metavar="PACKAGE", help="Add to the Debian made here.")] = None,
    scripts: Annotated[bool, typer.Option("--scripts", help="Let packages run scripts of their own.")] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Build an image, and say what to write in pratique.toml."""
    recipe = Recipe(
        name=name,
        base=base,
        npm=tuple(npm or ()),
        pypi=tuple(pypi or ()),
        debian=tuple(debian or ()),
        scripts=scripts,
    )
    with _refusals(), _progress() as told:
        entry = asyncio.run(build_image(_store(state), recipe, told))
    if as_json:
        print_json(_document(entry))
    else:
        print(f'image = "{entry.reference}"')


@app.command("list")
def list_images(state: State = None, as_json: Json = False) -> None:
    """What there is, with what to write in pratique.toml."""
    with _refusals():
        entries = _store(state).entries()
    if as_json:
        print_json([_document(entry) for entry in entries])
    else:
        for entry in entries:
            print(f'image = "{entry.reference}"\n  {_contents(entry)}')
        if not entries:
            print("no images; `pratique image build` makes one")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which.")], state: State = None, as_json: Json = False
) -> None:
    """Forget a name, and delete the images that no other name stands for."""
    with _refusals():
        gone = _store(state).remove(name)
    kept = [left for digest in gone if (left := leave(digest))]
    if as_json:
        print_json(gone)
    else:
        print("\n".join([f"removed {name}: {len(gone)} deleted", *kept]))


def _store(state: Path | None) -> Store:
    return Store(folder=(state or default_state()) / "images")


def _document(entry: Entry) -> dict[str, object]:
    return asdict(entry) | {"reference": entry.reference}


def _contents(entry: Entry) -> str:
    made = datetime.fromtimestamp(entry.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    size = f"{entry.size_bytes >> 20} MiB"
    packages = [f"{len(of)} packages of {what}" for what, of in (("npm", entry.npm), ("PyPI", entry.pypi)) if of]
    return ", ".join([made, size, plain(entry.base), *packages])


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except SandboxError as error:
        raise OperatorError(str(error)) from error


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line that changes where a person watches, else a line for each step; on stderr."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda step: status.update(inert(step))
    else:
        yield lambda step: print(f"pratique: {inert(step)}", file=sys.stderr, flush=True)
