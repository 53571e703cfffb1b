"""`pratique`: the command line, put together.

Exit codes: 0 yes; 1 no (denied, broken, not verified); 2 usage, settings included; 3 no gateway answers.
What goes wrong is one sentence on stderr, never a traceback.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from gateway.cli import (
    approvals,
    audit,
    demo,
    doctor,
    grant,
    image,
    init,
    llm,
    policy,
    servers,
    stdio,
    tasks,
    workspace,
)
from gateway.cli.client import Unreachable
from gateway.errors import ConfigError, PratiqueError

NO, USAGE, UNREACHABLE = 1, 2, 3

app = typer.Typer(
    name="pratique",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a `[policy]` in a help text is no markup
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.command("serve")(init.serve)
app.command("console")(init.console)
app.command("demo")(demo.demo)
app.command("grant")(grant.grant)
app.command("inspect")(grant.inspect)
app.command("revoke")(grant.revoke)
app.command("doctor")(doctor.doctor)
app.command("stdio")(stdio.stdio)
app.command("diff")(workspace.diff)
app.command("apply")(workspace.apply)
app.command("drop")(workspace.drop)
app.add_typer(approvals.app, name="approvals")
app.add_typer(tasks.app, name="task")
app.add_typer(servers.app, name="server")
app.add_typer(workspace.files, name="files")
app.add_typer(policy.app, name="policy")
app.add_typer(image.app, name="image")
app.add_typer(audit.app, name="audit")
app.add_typer(llm.app, name="llm")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        print(f"pratique {version('pratique')}")
    except PackageNotFoundError:
        print("pratique, not installed as a package: its version is in pyproject.toml")
    raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The gateway between AI agents and their tools."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    try:
        app(args=arguments, prog_name="pratique")
    except SystemExit as end:  # how typer ends, well or not; its own complaints exit 2
        return end.code if isinstance(end.code, int) else 0
    except PratiqueError as error:
        print(f"pratique: {error}", file=sys.stderr)
        return _code(error)
    return 0


def _code(error: PratiqueError) -> int:
    match error:
        case Unreachable():
            return UNREACHABLE
        case ConfigError():
            return USAGE
        case _:
            return NO
