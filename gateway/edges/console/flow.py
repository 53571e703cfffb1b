"""The picture of a task: its calls in time, and an arrow wherever a value of one became an argument of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.query import Record

ROW, LEFT, WIDTH = 46, 150, 760
_COLOURS = {"permit": "ok", "ok": "ok", "ask": "ask", "deny": "no", "error": "no", "unknown": "no", "not_sent": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One call of the task, or one refusal."""

    action: str
    name: str
    state: str
    """`ok`, `ask`, `no`: how it is coloured."""
    word: str
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """A value that travelled."""

    path: str
    """SVG path data."""
    label: str
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    height: int
    width: int = WIDTH


def flow_of(events: Sequence[Record]) -> Flow:
    """The flow of a task's events, oldest first ."""
    calls: dict[str, dict[str, Any]] = {}
    for event in events:
        if not event.action or not event.server:
            continue
        call = calls.setdefault(event.action, {"name": f"{event.server}.{event.tool}", "word": "", "from": []})
        call["word"] = event.verdict
        call["from"] = _origins(event.payload or {}) or call["from"]
    rows = {action: 30 + ROW * place for place, action in enumerate(calls)}
    nodes = [
        Node(action=a, name=c["name"], state=_COLOURS.get(c["word"], "ask"), word=c["word"], y=rows[a])
        for a, c in calls.items()
    ]
    arrows = [
        _arrow(rows[source], rows[action], label, trusted, lane)
        for action, call in calls.items()
        for lane, (source, label, trusted) in enumerate(call["from"])
        if source in rows and source != action
    ]
    return Flow(nodes=nodes, arrows=arrows, height=40 + ROW * max(1, len(nodes)))


def _origins(payload: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(action it came from, argument, whether that proves it)."""
    found = [
        (source[0], str(argument["path"]), True)
        for argument in payload.get("arguments", ())
        if argument.get("proof")
        for source in argument.get("from", ())[:1]
    ]
    seen = {(source, label) for source, label, _ in found}
    for trace in payload.get("trace", ()):
        key = (str(trace.get("action", "")), str(trace.get("argument", "")))
        if key not in seen:
            seen.add(key)
            found.append((*key, False))
    return found


def _arrow(above: int, below: int, label: str, trusted: bool, lane: int) -> Arrow:
    bend = LEFT - 40 - 14 * (lane % 6)
    path = f"M {LEFT} {above} C {bend} {above}, {bend} {below}, {LEFT} {below}"
    return Arrow(path=path, label=label, trusted=trusted)
