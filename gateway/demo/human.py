"""The person whose money it is: told of every question, and in `--once` answering it as they would."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.demo.agent import PAYEE_IBAN

LOOK_EVERY_S = 0.2


class Office(Protocol):
    """The operators' REST API of the running gateway."""

    async def get(self, path: str, **query: str | int) -> Any: ...

    async def post(self, path: str, body: dict[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody at the approval desk."""

    tell: Callable[[dict[str, Any]], None]
    """Called once with each ticket that waits."""
    decides: bool
    """Whether the answer comes from here; otherwise from the console or the command line."""

    async def attend(self, office: Office) -> None:
        """Look after the desk until cancelled."""
        told: set[str] = set()
        while True:
            page = await office.get("/approvals", state="pending")
            for ticket in page["approvals"]:
                if ticket["id"] in told:
                    continue
                told.add(ticket["id"])
                self.tell(ticket)
                if self.decides:
                    await office.post(f"/approvals/{ticket['id']}/decisions", _answer(ticket))
            await asyncio.sleep(LOOK_EVERY_S)


def value_of(ticket: dict[str, Any], path: str) -> Any:
    """What the card shows for one argument."""
    return next((argument["value"] for argument in ticket["card"]["arguments"] if argument["path"] == path), None)


def _answer(ticket: dict[str, Any]) -> dict[str, Any]:
    """Yes to the airline's saved account, no to any other."""
    is_known = value_of(ticket, "/to") == PAYEE_IBAN
    comment = "the airline's saved account" if is_known else "I do not know this account"
    return {
        "decision": "approve" if is_known else "deny",
        "call_digest": ticket["call_digest"],
        "version": ticket["version"],
        "comment": comment,
    }
