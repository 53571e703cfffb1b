"""`pratique audit`: what the log says, whether it is whole, and a copy of it for others."""

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from audit import query as log
from audit.errors import AuditError
from audit.event import KINDS
from audit.export import export as write_export
from audit.report import Report
from audit.verify import describe
from audit.verify import verify as verify_log
from gateway.cli.client import Unreachable, operator
from gateway.cli.offline import database_file, reading
from gateway.cli.show import Json, State, plain, print_fields, print_json, print_table
from gateway.desk import reading as card_reading
from gateway.edges.documents import event_document, instant, rfc3339
from gateway.errors import ConfigError, OperatorError
from gateway.ports import OutcomeKind
from gateway.settings import default_state
from gateway.stores.tickets import TicketState
from policies.fit import nearest

app = typer.Typer(
    help="The audit log: what happened, why, and whether the log is whole.", no_args_is_help=True, rich_markup_mode=None
)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
VERDICTS = ("permit", "ask", "deny", *OutcomeKind, *TicketState)
"""What stands as an event's verdict."""
Text = Annotated[str | None, typer.Option(show_default=False)]
Moment = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="As in 2027-05-14T09:30:00Z, or 2h for two hours ago.", show_default=False),
]


@app.command()
def query(
    *,
    task: Text = None,
    agent: Text = None,
    tool: Annotated[str | None, typer.Option(metavar="SERVER.TOOL", help="Or SERVER.*", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option(help="As in effect.intent.", show_default=False)] = None,
    verdict: Annotated[str | None, typer.Option(help="As in permit, ask, deny, ok.", show_default=False)] = None,
    since: Moment = None,
    until: Moment = None,
    after: Annotated[int, typer.Option(min=-1, help="Those after this leaf.", show_default=False)] = -1,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    state: State = None,
    as_json: Json = False,
) -> None:
    """List the events that match everything given, oldest first."""
    _known(kind, KINDS, "--kind")
    _known(verdict, VERDICTS, "--verdict")
    wanted = log.Filter(
        task=task,
        agent=agent,
        tool=tool,
        kind=kind,
        verdict=verdict,
        since=_moment(since, "--since"),
        until=_moment(until, "--until"),
    )

    def offline(db: sqlite3.Connection) -> Any:
        return {"events": [event_document(one) for one in log.query(db, wanted, after=after, limit=limit)]}

    times = {"since": rfc3339(wanted.since), "until": rfc3339(wanted.until)}
    given = {name: value for name, value in (asdict(wanted) | times).items() if value is not None}
    page = _ask(state, "/audit", offline, **given, after=after, limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [{**one, "what": _what(one)} for one in page["events"]]
    print_table(rows, ("index", "time", "kind", "what", "verdict", "action"), empty="nothing matches")


@app.command()
def show(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, or its leaf's number.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show one event with everything that was recorded of it."""

    def offline(db: sqlite3.Connection) -> Any:
        found = log.show(db, event)
        if found is None:
            raise OperatorError(f"no event {event}", status=404)
        return event_document(found)

    found = _ask(state, f"/audit/{quote(event, safe='')}", offline)
    if as_json:
        print_json(found)
        return
    payload = found.pop("payload")
    print_fields({name: value for name, value in found.items() if value != ""})
    said = "erased" if payload is None else json.dumps(payload, ensure_ascii=False, indent=2)
    print("\n".join(plain(line) for line in said.split("\n")))


@app.command()
def why(
    which: Annotated[str, typer.Argument(metavar="ACTION|APPROVAL|EVENT")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Tell the story of one call: what was decided, on what grounds, who approved it, what became of it."""

    def offline(db: sqlite3.Connection) -> Any:
        found = log.why(db, which)
        if not found:
            raise OperatorError(f"nothing is recorded of {which}", status=404)
        return {"events": [event_document(one) for one in found]}

    page = _ask(state, f"/audit/why/{quote(which, safe='')}", offline)
    if as_json:
        print_json(page)
    else:
        print("\n".join(line for event in page["events"] for line in _story(event)))


@app.command()
def verify(
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="A copied database or an export.", show_default=False)
    ] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="The verifier key you were given.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A checkpoint that was kept elsewhere.", show_default=False)
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Check a log against itself, its keys and its checkpoints: this gateway's, or a copy; name the first bad leaf."""
    try:
        report = verify_log(path or database_file(state or default_state()), keys=key or (), checkpoint=checkpoint)
    except AuditError as error:
        raise ConfigError(str(error)) from error
    print(json.dumps(_report(report), indent=2) if as_json else "\n".join(plain(line) for line in describe(report)))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; never over a file that is there.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Write the whole log to a file that verifies offline, running gateway or not."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as out, reading(state or default_state()) as db:
            leaves = write_export(db, out)
    except AuditError as error:
        file.unlink()
        raise OperatorError(str(error), status=500) from error
    except BaseException:
        file.unlink()
        raise
    if as_json:
        print_json({"file": str(file), "leaves": leaves})
    else:
        print(f"{leaves} leaves written to {file}; check it with `pratique audit verify {file}`")


def _ask(state: Path | None, path: str, offline: Callable[[sqlite3.Connection], Any], **given: str | int) -> Any:
    """What the running gateway says, or the store of one that does not run."""
    folder = state or default_state()
    try:
        return operator(folder).get(path, **given)
    except Unreachable as error:
        with reading(folder, error) as db:
            return offline(db)


def _moment(text: str | None, option: str) -> float | None:
    """A time, or how long ago.

    Raises:
        BadParameter: neither.
    """
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if ago:
        return time.time() - int(ago[1]) * SECONDS[ago[2]]
    try:
        return instant(text)
    except OperatorError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _known(word: str | None, words: Collection[str], option: str) -> None:
    if word is not None and word not in words:
        raise typer.BadParameter(f"{word!r} is never written{nearest(word, words)}", param_hint=option)


def _what(event: Mapping[str, Any]) -> str:
    return f"{event['server']}.{event['tool']}" if event["tool"] else str(event["server"])


def _story(event: Mapping[str, Any]) -> Iterator[str]:
    """One event of a call, with its grounds and where refused values were read."""
    payload = event["payload"] or {}
    yield plain(f"leaf {event['index']}  {event['time']}  {event['kind']}  {_what(event)}  {event['verdict']}")
    card = payload.get("card") or {}
    for reason in [*payload.get("denials", ()), *(card or payload).get("asks", ())]:
        about = f" {reason['path']}" if reason["path"] else ""
        yield f"    {plain(reason['code'] + about)}: {plain(reason['detail'])}"
    origins = [origin for argument in card.get("arguments", ()) for origin in argument["origins"]]
    for found in [*payload.get("trace", ()), *origins]:
        yield f"    {plain(found['argument'])}: {plain(card_reading.place(found))} {plain(found['snippet'])}"
    for name in ("by", "comment", "scope", "outcome", "detail", "approved_by"):
        if said := payload.get(name):
            yield f"    {name.replace('_', ' ')}: {plain(said)}"


def _report(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "first_bad": report.first_bad,
        "leaves": report.size,
        "checkpoints": report.checkpoints,
        "signed": report.signed,
        "erased": report.erased,
        "problems": [{"where": one.where, "what": one.what, "leaf": one.leaf} for one in report.problems],
        "notes": list(report.notes),
    }
