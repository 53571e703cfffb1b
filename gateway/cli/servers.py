"""`pratique server`: the servers behind the gateway, and what they now say of themselves."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.client import operator
from gateway.cli.show import Json, State, inert, print_fields, print_json, print_table
from gateway.settings import default_state

app = typer.Typer(
    help="Servers: their state, and definitions that changed.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_servers(state: State = None, as_json: Json = False) -> None:
    """List the servers and how they are."""
    page = operator(state or default_state()).get("/servers")
    if as_json:
        print_json(page)
    else:
        print_table(
            page["servers"],
            ("name", "state", "tools", "sandbox", "network", "warning", "error"),
            empty="no server is configured",
        )


@app.command()
def show(name: Name, state: State = None, as_json: Json = False) -> None:
    """Show one server: its command, its sandbox, its tools and their pins."""
    found = operator(state or default_state()).get(f"/servers/{name}")
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@app.command()
def diff(name: Name, state: State = None, as_json: Json = False) -> None:
    """Show what changed in the server's definitions since they were pinned; exits 1 when something did."""
    page = operator(state or default_state()).get(f"/servers/{name}/diff")
    changes = page["changes"]
    if as_json:
        print_json(page)
    elif not changes:
        print(f"{name} says what was pinned")
    else:
        console = Console(file=sys.stdout)
        for change in changes:
            console.print(inert(f"{name}.{change['name']} ({change['pin']}), seen as {change['seen']}"))
            for line in change["diff"]:
                console.print(inert(line))
    if changes:
        raise typer.Exit(1)


@app.command()
def accept(
    name: Name,
    tool: Annotated[str | None, typer.Option("--tool", help="This one alone.", show_default=False)] = None,
    seen: Annotated[
        str,
        typer.Option("--seen", metavar="DIGEST", help="Only if it still is what `diff` showed.", show_default=False),
    ] = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Accept what the server now says of its tools: it is pinned, and the tools may be called again."""
    body = {"tool": tool, "seen": seen}
    accepted = operator(state or default_state()).post(f"/servers/{name}/accept", body)
    if as_json:
        print_json(accepted)
    else:
        print(f"{name}: accepted {', '.join(accepted['accepted'])}")
