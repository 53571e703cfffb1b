"""After a crash: what was executing is unknown, keeps its budget, blocks its equals, and waits for a person."""

import sqlite3
from collections.abc import Callable

from audit.event import Event
from gateway.ids import new_id
from gateway.ports import Done, Ledger
from gateway.stores import calls, values
from gateway.stores.calls import Call, CallState
from policies.label import Label


async def recover(ledger: Ledger, worst: Callable[[str, str], Label], clock: Callable[[], float]) -> int:
    """Mark every call that has an intent and no outcome as unknown; how many there were. Nothing is run again.

    `worst(server, tool)` is the label that the result may have had: numbers of it may have left as progress.
    """
    now = clock()

    def recovered(db: sqlite3.Connection) -> Done[int]:
        open_calls = calls.still_open(db, CallState.EXECUTING)
        for call in open_calls:
            calls.finish(db, call.action, CallState.UNKNOWN)
            values.raise_mark(db, call.holder, worst(call.server, call.tool))
        return Done(value=len(open_calls), events=[_unknown(call, now) for call in open_calls])

    return await ledger.run(recovered)


def _unknown(call: Call, now: float) -> Event:
    return Event(
        id=new_id("evt"),
        kind="effect.outcome",
        time=now,
        payload={"outcome": "unknown", "detail": "the gateway ended before the outcome was known", "root": call.root},
        task=call.task,
        agent=call.agent,
        action=call.action,
        server=call.server,
        tool=call.tool,
        verdict="unknown",
    )
