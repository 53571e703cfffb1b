"""`pratique policy`: look at bundles before they decide anything. Needs no gateway and changes nothing."""

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.show import Json
from gateway.stages.confinement import DEMANDS
from policies.bundle import Bundle, load
from policies.engine import PolicyError
from policies.rego_engine import run_tests

app = typer.Typer(help="Check and test Rego bundles.", no_args_is_help=True, rich_markup_mode=None)

Bundles = Annotated[
    list[Path], typer.Argument(help="Files or folders of Rego, as `[policy] bundles` names them.", exists=True)
]


@app.command()
def check(bundles: Bundles, as_json: Json = False) -> None:
    """Say whether these bundles can be put in force with the kernel, and why not."""
    try:
        bundle = load(bundles)
        _check_demands(bundle)
    except PolicyError as error:
        print(
            json.dumps({"ok": False, "error": str(error), "file": error.file, "line": error.line}) if as_json else error
        )
        raise typer.Exit(1) from None
    said = {"ok": True, "revision": bundle.revision, "files": sorted(bundle.sources.modules), "values": bundle.values}
    if as_json:
        print(json.dumps(said))
        return
    print(f"ok: {len(bundle.sources.modules)} files, revision {bundle.revision[:12]}")
    if bundle.values:
        print("argument values are given to it")


def _check_demands(bundle: Bundle) -> None:
    """Raises PolicyError for a guarantee that no sandbox can have: such an obligation denies every call."""
    for name, text in bundle.sources.modules.items():
        for found in re.finditer(r'"(sandbox:[^"]*)"', text):
            if found[1] not in DEMANDS:
                near = get_close_matches(found[1], sorted(DEMANDS), n=1, cutoff=0.0)[0]
                line = text.count("\n", 0, found.start()) + 1
                raise PolicyError(f"no sandbox holds {found[1]!r}; did you mean {near!r}?", name, line)


@app.command("test")
def run(bundles: Annotated[list[Path] | None, typer.Argument(exists=True)] = None, as_json: Json = False) -> None:
    """Run every `test_*` rule of every `*_test.rego`, the kernel's included."""
    try:
        sources = load(bundles or ()).sources
        results = list(run_tests(sources.modules, sources.tests))
    except PolicyError as error:
        print(json.dumps({"error": str(error), "file": error.file, "line": error.line}) if as_json else error)
        raise typer.Exit(1) from None
    failed = [path for _, path, passed in results if not passed]
    if as_json:
        print(json.dumps([{"file": file, "test": path, "passed": passed} for file, path, passed in results]))
    else:
        for file, path, passed in results:
            print(f"{'pass' if passed else 'FAIL'}  {path}  ({file})")
        print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    raise typer.Exit(1 if failed else 0)
