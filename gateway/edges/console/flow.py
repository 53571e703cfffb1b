"""The picture of a task: its calls in time, and an arrow from the call whose result had a value to the one using it.

The rows are text; the arrows are drawn beside them. What an arrow rests on is either a proof (the value came from a
field that may supply it) or a likeness (the same value stood in that result), which explains and proves nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.query import Record
from policies.jsonvalue import pointer
from policies.trace import Origin, Past, trace

ROW = 64
"""Pixels of one row; the style sheet has the same number."""
LANE = 12
MOST_TRACED = 60
"""Calls of a task whose values are looked for in what it read before; the latest ones."""
_EXCERPT = {"start", "bytes", "sha256"}
"""How the log says what is too long for it (`stages/evidence.py`)."""
_STATES = {"permit": "ok", "ok": "ok", "ask": "ask", "pending": "ask", "approved": "ask", "not_sent": "ask"}
_WORDS = {
    "permit": "running",
    "ok": "done",
    "error": "the server said no",
    "unknown": "outcome unknown",
    "not_sent": "not sent",
    "ask": "waits for a person",
    "approved": "approved",
    "denied": "denied by a person",
    "expired": "nobody answered",
    "deny": "refused",
}


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of the task, or one refusal: a row."""

    action: str
    name: str
    word: str = ""
    ticket: str = ""
    supplies: list["Supply"] = field(default_factory=list)

    @property
    def state(self) -> str:
        """`ok`, `ask` or `no`: how it is coloured."""
        return _STATES.get(self.word, "no")

    @property
    def said(self) -> str:
        return _WORDS.get(self.word, self.word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A value that one call's result had and another's argument has."""

    argument: str
    action: str
    """Where it came from."""
    source: str
    kind: str
    """`proof`, `alike`, or `open` where the call was refused or asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """SVG path data of a line and its head."""

    line: str
    head: str
    kind: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    calls: Sequence[Call]
    arrows: Sequence[Arrow]
    width: int
    height: int


def flow_of(events: Iterable[Record], results: Sequence[Past]) -> Flow:
    """The flow of a task's events, oldest first; `results` is what it read, in order."""
    calls, asks = _calls(events)
    for action in list(asks)[-MOST_TRACED:]:
        call, ask = calls[action], asks[action]
        known = {supply.argument for supply in call.supplies}
        unknown = [(path, value) for path, value in ask.arguments if path not in known]
        before = [past for past in reversed(results) if past.action in ask.read]
        call.supplies += _alike(trace(unknown, before), ask.open)
    return _drawn(list(calls.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What a call was made with."""

    arguments: list[tuple[str, Any]]
    open: frozenset[str]
    """Arguments that it was refused or held for."""
    read: frozenset[str]
    """The calls whose results were there by then."""


def arguments_of(payload: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Each argument of a recorded call; of one that was refused before it was looked at, the top-level ones.

    Of arguments too long to stand in the log whole, nothing.
    """
    said = payload.get("card", payload).get("arguments") or []
    if len(said) == 1 and said[0]["path"] == "":
        if said[0]["value"].keys() == _EXCERPT:
            return []
        return [(pointer(name), value) for name, value in said[0]["value"].items()]
    return [(one["path"], one["value"]) for one in said]


def _calls(events: Iterable[Record]) -> tuple[dict[str, Call], dict[str, _Ask]]:
    calls: dict[str, Call] = {}
    asks: dict[str, _Ask] = {}
    done: frozenset[str] = frozenset()
    for event in events:
        if not event.action or not event.server:
            continue
        call = calls.setdefault(event.action, Call(action=event.action, name=f"{event.server}.{event.tool}"))
        call.word, call.ticket = event.verdict, event.ticket or call.ticket
        payload = event.payload or {}
        if arguments := arguments_of(payload):
            said = payload.get("card", payload)
            call.supplies = [supply for one in said["arguments"] if (supply := _proven(one))]
            held = {ask["path"] for ask in said.get("asks", ())} if event.kind == "approval.requested" else set()
            opened = {path for path, _ in arguments} if event.verdict == "deny" else held
            asks[event.action] = _Ask(arguments=arguments, open=frozenset(opened), read=done)
        if event.kind == "effect.outcome":
            done |= {event.action}
    return calls, asks


def _proven(argument: Mapping[str, Any]) -> Supply | None:
    """The result that proves an argument, if one does."""
    if argument.get("proof") != "result" or not argument.get("from"):
        return None
    action, server, tool, _ = argument["from"][0]
    return Supply(argument=str(argument["path"]), action=action, source=f"{server}.{tool}", kind="proof")


def _alike(origins: Iterable[Origin], held: frozenset[str]) -> list[Supply]:
    """The first place of each argument: the latest result that had its value."""
    first = {origin.argument: origin for origin in reversed(list(origins))}
    return [
        Supply(
            argument=name,
            action=one.action,
            source=f"{one.server}.{one.tool}",
            kind="open" if name in held else "alike",
        )
        for name, one in first.items()
    ]


# ---- drawing -----------------------------------------------------------------------------------------------------


def _drawn(calls: list[Call]) -> Flow:
    rows = {call.action: place for place, call in enumerate(calls)}
    pairs: dict[tuple[int, int], list[Supply]] = {}
    for call in calls:
        for supply in call.supplies:
            if supply.action in rows and supply.action != call.action:
                pairs.setdefault((rows[supply.action], rows[call.action]), []).append(supply)
    lanes: list[list[tuple[int, int]]] = []
    placed = [(pair, _lane(pair, lanes)) for pair in sorted(pairs, key=lambda pair: pair[1] - pair[0])]
    width = 24 + LANE * max(len(lanes), 1)
    arrows = [_arrow(pair, width - 20 - LANE * lane, width, pairs[pair]) for pair, lane in placed]
    return Flow(calls=calls, arrows=arrows, width=width, height=ROW * len(calls))


def _lane(pair: tuple[int, int], lanes: list[list[tuple[int, int]]]) -> int:
    """The innermost lane where the arrow crosses no other."""
    for number, lane in enumerate(lanes):
        if all(pair[1] < other[0] or pair[0] > other[1] for other in lane):
            lane.append(pair)
            return number
    lanes.append([pair])
    return len(lanes) - 1


def _arrow(pair: tuple[int, int], x: int, width: int, supplies: Sequence[Supply]) -> Arrow:
    above, below = (ROW * row + ROW // 2 + shift for row, shift in zip(pair, (6, -6), strict=True))
    down = f"M {width} {above} H {x + 6} Q {x} {above} {x} {above + 6} V {below - 6}"
    line = f"{down} Q {x} {below} {x + 6} {below} H {width - 7}"
    head = f"M {width} {below} L {width - 9} {below - 5} V {below + 5} Z"
    kinds = {supply.kind for supply in supplies}
    kind = next(kind for kind in ("open", "proof", "alike") if kind in kinds)
    label = ", ".join(supply.argument.removeprefix("/") for supply in supplies)
    return Arrow(line=line, head=head, kind=kind, label=f"{label}, from {supplies[0].source}")
