"""`pratique diff`, `apply`, `drop`: what servers changed in their copies, and whether it becomes real.

`pratique files`: which files carry whose data.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from gateway.cli.client import operator
from gateway.cli.show import Json, State, plain, print_json, print_table
from gateway.errors import OperatorError
from gateway.settings import default_state

files = typer.Typer(help="Labels of files that servers wrote.", no_args_is_help=True, rich_markup_mode=None)

Task = Annotated[str, typer.Argument(metavar="TASK")]
Server = Annotated[
    str | None, typer.Option("--server", metavar="NAME", help="Of this server alone.", show_default=False)
]
Digest = Annotated[
    str, typer.Option("--digest", metavar="DIGEST", help="Only if it still is what `diff` showed.", show_default=False)
]


def diff(task: Task, server: Server = None, state: State = None, as_json: Json = False) -> None:
    """Show what servers changed in their copies for a task; exits 1 when something did."""
    found = operator(state or default_state()).get(f"/workspaces/{task}", **_of(server))
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["changes"]:
        raise typer.Exit(1)


def apply(  # noqa: PLR0917 - typer reads them by name
    task: Task,
    paths: Annotated[list[str] | None, typer.Argument(metavar="[PATH...]", help="These alone.")] = None,
    server: Server = None,
    digest: Digest = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Make what was shown real: all of it, or the paths that are named. Without a digest it is shown, and you are
    asked."""
    gateway = operator(state or default_state())
    found = gateway.get(f"/workspaces/{task}", **_of(server))
    body = {"digest": digest or _seen(found, "Apply exactly this?"), "server": server, "paths": _named(found, paths)}
    applied = gateway.post(f"/workspaces/{task}/apply", body)
    if as_json:
        print_json(applied)
    else:
        for path in applied["applied"]:
            print(f"applied {plain(path)}")
        for left in applied["left"]:
            print(f"left {plain(left['path'])}: {plain(left['why'])}")
    if applied["left"]:
        raise typer.Exit(1)


def drop(task: Task, server: Server = None, digest: Digest = "", state: State = None, as_json: Json = False) -> None:
    """Forget what servers changed for a task; the originals stay as they are. Without a digest it is shown, and you are
    asked."""
    gateway = operator(state or default_state())
    if not digest:
        digest = _seen(gateway.get(f"/workspaces/{task}", **_of(server)), "Drop all of this?")
    dropped = gateway.post(f"/workspaces/{task}/drop", {"digest": digest, "server": server})
    if as_json:
        print_json(dropped)
    else:
        print("\n".join(f"dropped the copy of {plain(source)}" for source in dropped["dropped"]))


@files.command("list")
def list_files(state: State = None, as_json: Json = False) -> None:
    """List the paths that servers wrote to, and whose data may be there."""
    page = operator(state or default_state()).get("/files")
    if as_json:
        print_json(page)
        return
    rows = [{**one, **one["label"], "classes": ", ".join(one["label"]["classes"])} for one in page["files"]]
    print_table(rows, ("path", "server", "classes", "integrity", "time"), empty="no file carries a label")


@files.command()
def clear(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or a folder and all in it.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Vouch for what is at a path: whoever reads it from now on is not said to have read what servers wrote there."""
    cleared = operator(state or default_state()).post("/files/clear", {"path": _real(path)})
    if as_json:
        print_json(cleared)
    else:
        print("\n".join(f"cleared {plain(one)}" for one in cleared["cleared"]))


def difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The difference for a terminal; nothing of it but what is shown."""
    for workspace in found["workspaces"]:
        yield f"{plain(workspace['source'])}, as {workspace['server']} would have it"
        for change in workspace["changes"]:
            yield ""
            yield from _change_lines(change)
        if workspace["more"]:
            yield f"! and {workspace['more']} more changes: too many to look at"
        for left in workspace["left_out"]:
            yield f"! left out {plain(left['path'])}: {plain(left['why'])}"
        if workspace["more_left_out"]:
            yield f"! and {workspace['more_left_out']} more left out"
        for left in workspace["skipped"]:
            yield f"! not in the copy: {plain(left['path'])}: {plain(left['why'])}"
        yield ""
    yield f"{found['changes']} changes, digest {found['digest']}"


def _change_lines(change: Mapping[str, Any]) -> Iterator[str]:
    before, after = change["before"], change["after"]
    yield f"{change['action']} {change['kind']} {plain(change['path'])}{_modes(before, after)}"
    if change["clash"]:
        yield f"! {plain(change['clash'])}"
    if change["kind"] == "link":
        yield from (f"-{plain(before['target'])}" for _ in filter(None, [before]))
        yield from (f"+{plain(after['target'])}" for _ in filter(None, [after]))
    elif change["diff"] is not None:
        yield from map(plain, change["diff"])
    elif change["kind"] == "file" and change["action"] != "mode":
        for sign, entry in (("-", before), ("+", after)):
            if entry:
                yield f"{sign}{entry['size']} bytes, sha256 {entry['sha256']}"


def _modes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if not before or not after:
        return f" ({(after or before)['mode']})"
    return f" ({before['mode']} -> {after['mode']})" if before["mode"] != after["mode"] else ""


_STYLES = {"+": "green", "-": "red", "@": "cyan", "!": "bold yellow"}


def _print(found: Mapping[str, Any]) -> None:
    console = Console(file=sys.stdout, soft_wrap=True)
    for line in difference_lines(found):
        console.print(Text(line, style=_STYLES.get(line[:1], "")))


def _seen(found: Mapping[str, Any], question: str) -> str:
    """The digest of what was shown and said yes to.

    Raises:
        OperatorError: nobody is there to say it.
    """
    _print(found)
    if not sys.stdin.isatty():
        raise OperatorError("nobody is there to be asked: name the --digest that `pratique diff` printed")
    typer.confirm(question, abort=True)
    return str(found["digest"])


def _named(found: Mapping[str, Any], paths: Sequence[str] | None) -> list[str]:
    """Every change at the paths that were named, and inside them.

    Raises:
        OperatorError: one names nothing.
    """
    known = [change["path"] for workspace in found["workspaces"] for change in workspace["changes"]]
    named: dict[str, None] = {}
    for path in map(_real, paths or ()):
        inside = [one for one in known if one == path or one.startswith(f"{path.rstrip('/')}/")]
        if not inside:
            raise OperatorError(f"{path} is not in the difference")
        named |= dict.fromkeys(inside)
    return list(named)


def _real(path: str) -> str:
    """The path as the gateway knows it: whole, and past the links that lead there."""
    whole = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


def _of(server: str | None) -> dict[str, str]:
    return {} if server is None else {"server": server}
