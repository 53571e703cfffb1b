"""The live feed of approvals: server-sent events, for pages and programs that want to know at once.

It begins with all that waits, so whoever reconnects has missed nothing, whatever `Last-Event-ID` says.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.desk.desk import ApprovalDesk
from gateway.stores.tickets import Ticket

ALIVE_S = 1.0
"""How often a quiet feed shows that it lives, and asks whether its reader may still look."""
MAX_FEEDS = 64
BACKLOG = 1000
"""A reader that is further behind is cut off; its next connection begins with all that waits."""


async def feed(desk: ApprovalDesk, *, may_look: Callable[[], bool], alive_s: float = ALIVE_S) -> AsyncIterator[str]:
    """Events until the reader goes, falls behind, or may no longer look."""
    moved: asyncio.Queue[Ticket] = asyncio.Queue(maxsize=BACKLOG)

    def tell(ticket: Ticket) -> None:
        if not moved.full():
            moved.put_nowait(ticket)

    desk.listeners.add(tell)
    try:
        yield _event("waiting", "", {"waiting": desk.waiting()})
        while may_look() and not desk.is_closing and not moved.full():
            try:
                async with asyncio.timeout(alive_s):
                    ticket = await moved.get()
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if not may_look():
                return
            said = {"id": ticket.id, "state": ticket.state, "version": ticket.version}
            yield _event("approval", f"{ticket.id}:{ticket.version}", said)
    finally:
        desk.listeners.discard(tell)


def _event(name: str, event_id: str, data: dict[str, Any]) -> str:
    identified = f"id: {event_id}\n" if event_id else ""
    return f"event: {name}\n{identified}data: {json.dumps(data)}\n\n"
