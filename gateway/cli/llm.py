"""`pratique llm`: the model at work, what it keeps, and who used how much of it."""

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.live import Live

from gateway.cli.client import Unreachable, operator
from gateway.cli.llm_top import screen
from gateway.cli.offline import reading
from gateway.cli.show import Json, State, plain, print_json, print_table
from gateway.edges.documents import rfc3339
from gateway.llm.usage import Tally, Wanted, tallied
from gateway.settings import default_state

app = typer.Typer(
    help="The model: what runs, what it keeps, who used how much.", no_args_is_help=True, rich_markup_mode=None
)

REFRESH_S = 1.0

Id = Annotated[str, typer.Argument(metavar="GENERATION", help="As `pratique llm list` names it.")]
Text = Annotated[str | None, typer.Option(show_default=False)]


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Watch the model: its memory block by block, the queues, and what each tenant was served."""
    gateway = operator(state or default_state())
    seen = gateway.get("/llm")
    console = Console()
    if as_json:
        print_json(seen)
    elif once or not console.is_terminal:
        console.print(screen(seen, console.width))
    else:
        _watch(console, gateway.get, seen)


@app.command("models")
def models(state: State = None, as_json: Json = False) -> None:
    """List the models and how far they are loaded."""
    page = operator(state or default_state()).get("/llm/models")
    if as_json:
        print_json(page)
    else:
        columns = ("name", "status", "architecture", "dtype", "weights", "window", "kv_blocks", "source")
        print_table(page["models"], columns, empty="no model is configured")


@app.command("list")
def list_generations(state: State = None, as_json: Json = False) -> None:
    """List the generations that are kept: suspended, or running with a checkpoint."""
    page = operator(state or default_state()).get("/llm/generations")
    if as_json:
        print_json(page)
    else:
        print_table(page["generations"], ("id", "state", "tokens", "task", "agent", "created"), empty="nothing is kept")


@app.command()
def suspend(generation: Id, state: State = None, as_json: Json = False) -> None:
    """Stop a running generation and keep it; its owner may resume it, after a restart too."""
    _does(state, generation, "suspend", as_json)


@app.command()
def forget(generation: Id, state: State = None, as_json: Json = False) -> None:
    """Delete what was kept of a generation: nobody can resume it."""
    _does(state, generation, "forget", as_json)


@app.command()
def usage(
    *,
    task: Text = None,
    agent: Text = None,
    request: Annotated[
        str | None, typer.Option(metavar="ACTION", help="This one alone, decision by decision.", show_default=False)
    ] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Add up from the audit log who used how many tokens and block-seconds, and why requests waited."""
    found = _used(state or default_state(), Wanted(task=task, agent=agent, request=request))
    if as_json:
        print_json(found)
        return
    rows = [_usage_row(one) for one in found["usage"]]
    if len(rows) > 1:
        rows.append(_usage_row({"tenant": "(all)", "task": "", "agent": "", **found["total"]}))
    print_table(rows, USAGE_COLUMNS, empty="nothing was used")
    for one in found.get("decisions", ()):
        print(_decision_line(one))
    if found["erased"]:
        print(f"{found['erased']} batches were erased from the log: what they held is missing here")


USAGE_COLUMNS = (
    *("tenant", "task", "agent", "requests", "prompt", "cached", "output"),
    *("block-seconds", "waited_s", "why"),
)


def _watch(console: Console, get: Any, seen: Any) -> None:
    """Draw it anew until Ctrl-C."""
    with Live(screen(seen, console.width), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                live.update(screen(get("/llm"), console.width), refresh=True)
        except KeyboardInterrupt:
            return


def _does(state: Path | None, generation: str, what: str, as_json: bool) -> None:
    done = operator(state or default_state()).post(f"/llm/generations/{quote(generation, safe='')}/{what}")
    if as_json:
        print_json(done)
    else:
        print(f"{plain(done['id'])} {'is suspended' if what == 'suspend' else 'is forgotten'}")


def _used(state: Path, wanted: Wanted) -> Any:
    """What the running gateway says, or the store of one that does not run."""
    given = {"task": wanted.task, "agent": wanted.agent, "request": wanted.request}
    try:
        return operator(state).get("/llm/usage", **{name: one for name, one in given.items() if one is not None})
    except Unreachable as error:
        tally = Tally(wanted=wanted)
        with reading(state, error) as db:
            for _page in tallied(db, tally):
                pass
        return tally.document()


def _usage_row(one: Any) -> dict[str, Any]:
    return {
        **one,
        "task": one["task"] or "-",
        "agent": one["agent"] or "-",
        "prompt": one["prefill_tokens"],
        "cached": one["cached_tokens"],
        "output": one["decode_tokens"],
        "block-seconds": f"{one['block_seconds']:.1f}",
        "waited_s": f"{one['waited_s']:.1f}",
        "why": "; ".join(
            f"{kind}: {reason} x{times}"
            for kind in ("waited", "preempted", "refused")
            for reason, times in one[kind].items()
        ),
    }


def _decision_line(one: Any) -> str:
    tokens = ", ".join(
        f"{one[name]} {said}"
        for name, said in (("prefill_tokens", "prompt"), ("cached_tokens", "cached"), ("decode_tokens", "output"))
        if one[name]
    )
    parts = (rfc3339(one["time"]), one["kind"], one["reason"], f"({tokens} tokens)" if tokens else "")
    return "  ".join(plain(part) for part in parts if part)
