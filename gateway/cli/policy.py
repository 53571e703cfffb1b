"""`pratique policy`: look at bundles before they decide anything. Needs no gateway and changes nothing."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.show import Json
from policies.bundle import load
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
