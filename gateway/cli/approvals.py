"""`pratique approvals`: the calls that wait for a person, and that person's answer."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import chop_cells

from gateway.cli.client import Unreachable, operator
from gateway.cli.offline import reading
from gateway.cli.show import Json, State, plain, print_json, print_table
from gateway.desk import reading as card_reading
from gateway.edges.documents import MODEL_WORDS, MOST_MODEL_WORDS, ticket_document
from gateway.errors import OperatorError
from gateway.settings import default_state
from gateway.stores import tickets
from gateway.stores.tickets import Scope, TicketState
from policies.plain import is_plain

app = typer.Typer(help="Approvals: calls that wait for a person.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="APPROVAL")]
Comment = Annotated[str, typer.Option("--comment", metavar="TEXT", help="For the log.")]


class Listed(StrEnum):
    """Which approvals to list."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CONSUMED = "consumed"
    ALL = "all"


@app.command("list")
def list_approvals(
    *,
    which: Annotated[Listed, typer.Option("--which", help="Those in this state.")] = Listed.PENDING,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", show_default=False)] = None,
    after: Annotated[str, typer.Option("--after", metavar="APPROVAL", help="Those after this one.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 100,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List the approvals, oldest first: those that wait, unless told otherwise."""
    folder = state or default_state()
    wanted = {} if which is Listed.ALL else {"state": which.value}
    wanted |= {} if task is None else {"task": task}
    try:
        page = operator(folder).get("/approvals", **wanted, after=after, limit=limit)
    except Unreachable as error:
        with reading(folder, error) as db:
            only = None if which is Listed.ALL else TicketState(which.value)
            found = tickets.listed(db, state=only, task=task, after=after, limit=limit)
            page = {"approvals": [ticket_document(one) for one in found]}
    if as_json:
        print_json(page)
        return
    rows = [{**one, "headline": one["card"]["headline"]} for one in page["approvals"]]
    print_table(rows, ("id", "state", "expires", "headline"), empty="nothing waits")


@app.command()
def show(approval: Id, state: State = None, as_json: Json = False) -> None:
    """Show one approval in full: what would be sent, where it comes from, what was granted."""
    found = _load(state or default_state(), approval)
    if as_json:
        print_json(found)
    else:
        print("\n".join(card_lines(found)))


@app.command()
def approve(
    approval: Id,
    comment: Comment = "",
    scope: Annotated[
        Scope, typer.Option("--scope", help="This call alone, or its values for the rest of the task too.")
    ] = Scope.ONCE,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show one approval and say yes to exactly what was shown."""
    _decide(
        state or default_state(), approval, {"decision": "approve", "scope": scope.value, "comment": comment}, as_json
    )


@app.command()
def deny(approval: Id, comment: Comment = "", state: State = None, as_json: Json = False) -> None:
    """Say no: to this call, and to every other of its task with the same effect."""
    _decide(state or default_state(), approval, {"decision": "deny", "comment": comment}, as_json)


def card_lines(ticket: Mapping[str, Any]) -> Iterator[str]:
    """The card for a terminal; every value on one line, in characters that can be seen."""
    card = ticket["card"]
    yield f"{plain(card['headline'])}  [{card_reading.EFFECTS[card['effect']].lower()}]"
    yield f"for the task: {plain(card['task_text'])} ({card['task']})"
    yield f"{ticket['state']}; asked {ticket['created']}, answers itself no at {ticket['expires']}"
    yield "\nwhat would be sent"
    for argument in card["arguments"]:
        yield from _argument_lines(card, argument)
    yield "\nwhy you are asked"
    yield from (f"  {plain(sentence)}" for sentence in card_reading.why(card))
    yield "\nwhat was granted"
    yield from (f"  {plain(rule)}" for rule in card["rules"])
    yield f"  {'; '.join(card_reading.budgets(card)) or 'no budget was set'}"
    yield f"  {card_reading.read_so_far(card)}"
    yield f"\n{ticket['id']} version {ticket['version']}, digest {ticket['call_digest']}"
    if ticket["by"]:
        comment = plain(ticket["comment"]) or "no comment"
        yield f"{ticket['state']} by {plain(ticket['by'])} at {ticket['decided']}: {comment}"
    if words := ticket.get("model_summary"):
        yield f"\n{MODEL_WORDS}"
        shown = plain(" ".join(words[:MOST_MODEL_WORDS].split()))
        yield from (f"  | {line}" for line in chop_cells(shown, _WORDS_WIDTH))


def _argument_lines(card: Mapping[str, Any], argument: Mapping[str, Any]) -> Iterator[str]:
    value, (standing, said) = argument["value"], card_reading.standing(card, argument)
    shown = "(left out)" if value is None else plain(value)
    yield f"  {plain(argument['path'].removeprefix('/'))} ({card_reading.ROLES[argument['role']]}): {shown}"
    if isinstance(value, str) and not is_plain(value):
        yield "      ! it holds signs that cannot be seen or that imitate others"
    yield f"      {_MARKS[standing]} {said}" + (
        f"; granted: {plain(', '.join(argument['granted']))}" if argument["granted"] else ""
    )
    for found in card_reading.places(argument):
        yield f"      {plain(card_reading.place(found))} {plain(found['snippet'])}"


_WORDS_WIDTH = 72
"""Columns of a line of the model's words: broken here, since a terminal would break it without its mark."""
_MARKS = {"open": "!", "proven": "+", "free": "-"}


def _decide(state: Path, approval: str, answer: dict[str, str], as_json: bool) -> None:
    """Send an answer to exactly what is shown: its digest and its version go with it."""
    seen = _load(state, approval, online=True)
    if not as_json:
        print("\n".join(card_lines(seen)))
    body = {**answer, "call_digest": seen["call_digest"], "version": seen["version"]}
    decided = operator(state).post(f"/approvals/{approval}/decisions", body)
    if as_json:
        print_json(decided)
    else:
        print(f"\n{decided['state']}" + (", for the rest of the task" if decided["scope"] == Scope.TASK else ""))


def _load(state: Path, approval: str, *, online: bool = False) -> Any:
    try:
        return operator(state).get(f"/approvals/{approval}")
    except Unreachable as error:
        if online:
            raise
        with reading(state, error) as db:
            found = tickets.load(db, approval)
    if found is None:
        raise OperatorError(f"no approval {approval}", status=404)
    return ticket_document(found)
