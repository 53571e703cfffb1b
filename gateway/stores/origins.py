"""Where the values of a call were seen before, read from what the task's results said: for cards and refusals."""

import sqlite3
from dataclasses import asdict
from typing import Any

from gateway.stores import values
from policies.case import Case
from policies.jsonvalue import JSON, pointer
from policies.trace import Past, trace


def origins(reader: sqlite3.Connection, case: Case) -> list[dict[str, Any]]:
    """Each place where an argument's value stands in a result of the task, newest first, as JSON. Proves nothing."""
    arguments = [(argument.path, argument.value) for argument in case.arguments] or _top(case.action.arguments)
    past = (
        Past(server=one.server, tool=one.tool, action=one.action, body=one.said)
        for one in values.remembered(reader, case.action.subject.task, newest_first=True)
    )
    return [asdict(origin) for origin in trace(arguments, past)]


def _top(arguments: dict[str, JSON]) -> list[tuple[str, JSON]]:
    """The arguments of a case that was refused before they were labelled."""
    return [(pointer(name), value) for name, value in arguments.items()]
