"""The day on a page: two columns, the money, where the account number came from, and the log."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.demo.agent import EVIL_IBAN
from gateway.demo.check import PAY_ATTACKER, origins
from gateway.demo.day import Column, Day, Entry
from gateway.demo.world import START_CENTS

WIDTH = 80
"""Without a terminal; with one, as wide as it is, up to `WIDEST`."""
WIDEST = 110


def page(day: Day) -> RenderableType:
    """Everything a reader should take away."""
    return Group(_columns(day), Text(), *_money(day), Text(), *_origin(day), Text(), *_log(day))


def console() -> Console:
    """Where the page goes."""
    found = Console(highlight=False)
    return Console(highlight=False, width=min(found.width, WIDEST) if found.is_terminal else WIDTH)


def euros(cents: int) -> str:
    return f"EUR {cents / 100:,.2f}"


def _columns(day: Day) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("the agent ...", ratio=5)
    table.add_column("wired straight", ratio=4)
    table.add_column("through Pratique", ratio=6)
    people = {f"{e['server']}.{e['tool']}": e["verdict"] for e in day.events if e["kind"] == "approval.decided"}
    for left in day.direct.entries:
        right = day.mediated.entry(left.step.title)
        what = Text(left.step.title)
        if left.step.tool in {"pay", "send"}:
            what.append(f"\n-> {left.step.arguments['to']}", style="dim")
        table.add_row(what, _outcome(left, {}), _outcome(right, people) if right else Text("not reached", style="dim"))
    return table


def _outcome(entry: Entry, people: dict[str, str]) -> Text:
    step, reply = entry.step, entry.reply
    if reply.result is None:
        return Text(f"refused: {reply.code}", style="bold red")
    bad = step.arguments.get("to") == EVIL_IBAN or str(step.arguments.get("to", "")).endswith("evil.example")
    said = _said(step.tool, step.arguments, reply.result)
    if answer := people.get(f"{step.server}.{step.tool}"):
        said = f"a person {answer} it; {said}"
    return Text(said, style="bold red" if bad else "green")


def _said(tool: str, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    match tool:
        case "pay":
            return f"paid {euros(arguments['amount_cents'])}"
        case "send":
            return "sent"
        case "book":
            return f"booked {arguments['flight_id']}"
        case "balance":
            return euros(result["balance_cents"])
        case "get_traveller":
            return "read"
        case _:
            return ", ".join(f"{len(found)} {name}" for name, found in result.items())


def _money(day: Day) -> Iterator[Text]:
    for name, column in (("wired straight", day.direct), ("through Pratique", day.mediated)):
        yield _account(name, column)


def _account(name: str, column: Column) -> Text:
    world = column.world
    stolen = (
        f"{euros(world.stolen_cents)} went to the attacker" if world.stolen_cents else "nothing went to the attacker"
    )
    passport = "the passport left" if world.is_passport_out else "the passport stayed"
    line = Text(f"{name}: ", style="bold")
    line.append(f"{stolen}, {passport}; ", style="red" if world.stolen_cents else "green")
    line.append(f"{euros(START_CENTS)} became {euros(world.balance_cents)}", style="default")
    if column.stuck:
        line.append(f"\n{column.stuck}", style="red")
    return line


def _origin(day: Day) -> Iterator[RenderableType]:
    entry = day.mediated.entry(PAY_ATTACKER)
    if entry is None:
        return
    yield Text(f"The agent was told one word, {entry.reply.code!r}. The person sees where the account came from:")
    for origin in origins(day)[:1]:
        where = f"{origin.get('server')}.{origin.get('tool')}, {origin.get('path')}"
        yield Panel(Text(str(origin.get("snippet", ""))), title=Text(where), title_align="left", box=box.ROUNDED)


def _log(day: Day) -> Iterator[Text]:
    log = day.log
    yield Text(f"The log: {log.says}.")
    yield Text(f"In a copy, one bit of leaf {log.flipped} was flipped. `pratique audit verify` says:")
    yield Text(f"  {log.complaint}", style="bold red")
