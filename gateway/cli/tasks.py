"""`pratique task`: what was granted, what became of it, and settling what nobody knows."""

from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.client import operator
from gateway.cli.show import Json, State, print_fields, print_json, print_table
from gateway.settings import default_state

app = typer.Typer(help="Tasks: what was granted, and what became of it.", no_args_is_help=True, rich_markup_mode=None)


class Settled(StrEnum):
    """What a person found out about a call whose outcome was unknown."""

    OK = "ok"
    FAILED = "failed"


@app.command("list")
def list_tasks(state: State = None, as_json: Json = False) -> None:
    """List the tasks."""
    page = operator(state or default_state()).get("/tasks")
    if as_json:
        print_json(page)
    else:
        print_table(page["tasks"], ("id", "agent", "text", "revoked", "created"), empty="no task was granted yet")


@app.command()
def show(
    task: Annotated[str, typer.Argument(metavar="TASK")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show one task: the user's words, its grant, its budgets."""
    found = operator(state or default_state()).get(f"/tasks/{task}")
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@app.command()
def settle(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="The call whose outcome is unknown.")],
    outcome: Annotated[Settled, typer.Argument(help="What really happened.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Say what became of a call whose answer never came, so that an equal one may run again."""
    settled = operator(state or default_state()).post("/tasks/settle", {"action": action, "outcome": outcome.value})
    if as_json:
        print_json(settled)
    else:
        print(f"{action} is settled: {outcome.value}")
