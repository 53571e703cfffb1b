"""After a crash: what was executing is unknown, keeps its budget, blocks its equals, and waits for a person."""

import sqlite3
from collections.abc import Callable

from audit.event import Event
from gateway.ids import new_id
from gateway.ports import Done, Ledger, OutcomeKind
from gateway.stores import calls, values
from gateway.stores.calls import Call, CallState
from policies.label import Label


async def recover(
    ledger: Ledger,
    worst: Callable[[str, str], Label],
    clock: Callable[[], float],
    harmless: frozenset[str] = frozenset(),
) -> int:
    """Mark every call that has an intent and no outcome as unknown; how many there were. Nothing is run again.

    Of a `harmless` server nobody is asked what became of a call: it could change nothing.
    `worst(server, tool)` is the label that the result may have had: numbers of it may have left as progress.
    """
    now = clock()

    def recovered(db: sqlite3.Connection) -> Done[int]:
        open_calls = calls.still_open(db, CallState.EXECUTING)
        for call in open_calls:
            calls.finish(db, call.action, CallState.ERROR if call.server in harmless else CallState.UNKNOWN)
            values.raise_mark(db, call.holder, worst(call.server, call.tool))
        lost = sum(call.server not in harmless for call in open_calls)
        return Done(value=lost, events=[_lost(call, now, call.server in harmless) for call in open_calls])

    return await ledger.run(recovered)


def _lost(call: Call, now: float, is_harmless: bool) -> Event:
    outcome = OutcomeKind.ERROR if is_harmless else OutcomeKind.UNKNOWN
    return Event(
        id=new_id("evt"),
        kind="effect.outcome",
        time=now,
        payload={"outcome": outcome, "detail": "the gateway ended before the outcome was known", "root": call.root},
        task=call.task,
        agent=call.agent,
        action=call.action,
        server=call.server,
        tool=call.tool,
        verdict=outcome,
    )
