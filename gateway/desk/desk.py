"""The desk: where a call waits for a person, and where a person's yes or no is written.

Only an operator's credential reaches `decide` (the edges see to it); an agent's connection never does. A yes is a
receipt for one exact call: the commit of that call uses it up. A no stays for every call with the same authority.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from audit.event import Event
from gateway.desk.card import card_of
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.ports import Answer, Done, Ledger
from gateway.stages.evidence import event_of
from gateway.stores import budgets, tickets
from gateway.stores.memory import Memory
from gateway.stores.origins import origins
from gateway.stores.tickets import Scope, Ticket, TicketState
from policies.case import Case
from policies.forms import canonical_form
from policies.jsonvalue import digest
from policies.pack import Form, Role
from policies.verdict import Code

MAX_PENDING = 32
"""Questions of one task that may wait at once: past it, new ones are refused as `overloaded`."""


@dataclass(slots=True, kw_only=True)
class ApprovalDesk:
    """Tickets, from the question to the answer."""

    ledger: Ledger
    memory: Memory
    clock: Callable[[], float]
    expire_s: float
    listeners: set[Callable[[Ticket], None]] = field(default_factory=set)
    """Told of every ticket that was opened or moved: the console's live view, the terminal's bell."""
    _waiting: dict[str, set[asyncio.Event]] = field(default_factory=dict)

    async def open(self, case: Case) -> Answer:
        """Write the question, or find the equal one that already waits."""
        now = self.clock()
        memory = self.memory.task(case.action.subject.task)
        reader = self.memory.reader
        card = card_of(
            case,
            origins(reader, case),
            text=memory.task.text if memory else "",
            budgets=budgets.left(reader, case.action.subject.root),
        )
        ticket = Ticket(
            id=new_id("apr"),
            task=case.action.subject.task,
            call_digest=case.call_digest,
            authority=case.authority,
            card=card,
            label=case.label.bare(),
            created=now,
            expires=now + self.expire_s,
        )

        def ask(db: sqlite3.Connection) -> Done[Answer]:
            pending = tickets.pending_for(db, ticket.call_digest)
            if pending and pending.expires > now and ticket.label.flows_to(pending.label):
                return Done(value=Answer(action=case.action.id, code=Code.PENDING, ticket=pending.id))
            events: list[Event] = []
            if pending and (closed := tickets.move(db, pending, TicketState.EXPIRED, now=now)):
                events.append(_decided(closed, now))
            if tickets.count_pending(db, ticket.task) >= MAX_PENDING:
                return Done(value=Answer(action=case.action.id, code=Code.OVERLOADED), keep=False)
            tickets.open_ticket(db, ticket)
            payload = {"card": card, "card_sha256": digest(card), "expires": ticket.expires}
            events.append(event_of(case.action, "approval.requested", now, payload, verdict="ask", ticket=ticket.id))
            return Done(
                value=Answer(action=case.action.id, code=Code.PENDING, ticket=ticket.id),
                events=events,
                after=lambda: self._moved(ticket),
            )

        return await self.ledger.run(ask)

    async def decided(self, ticket: str, wait_s: float) -> bool:
        """Whether the ticket was decided or closed within `wait_s` seconds. Holds nothing meanwhile."""
        woken = asyncio.Event()
        waiting = self._waiting.setdefault(ticket, set())
        waiting.add(woken)
        try:
            now = tickets.load(self.memory.reader, ticket)
            if now is None or now.state is not TicketState.PENDING:
                return True
            async with asyncio.timeout(wait_s):
                await woken.wait()
        except TimeoutError:
            return False
        finally:
            waiting.discard(woken)
            if not waiting:
                self._waiting.pop(ticket, None)
        return True

    async def decide(
        self,
        ticket: str,
        *,
        approve: bool,
        by: str,
        call_digest: str,
        version: int | None = None,
        scope: Scope = Scope.ONCE,
        comment: str = "",
    ) -> Ticket:
        """A person's answer, by an operator credential named in `by`.

        Raises:
            OperatorError: unknown ticket (404), another call's digest, already decided, or expired (409).
            Unrecordable: nothing was decided.
        """
        now = self.clock()

        def answer(db: sqlite3.Connection) -> Done[Ticket | OperatorError]:
            asked = tickets.load(db, ticket)
            if asked is None:
                return Done(value=OperatorError(f"no approval {ticket}", status=404))
            if asked.state is not TicketState.PENDING or (version is not None and asked.version != version):
                return Done(value=OperatorError(f"approval {ticket} is {asked.state} by now; look at it again"))
            if asked.call_digest != call_digest:
                return Done(value=OperatorError(f"approval {ticket} is for another call; look at it again"))
            if asked.expires <= now:
                return Done(value=OperatorError(f"approval {ticket} has expired"))
            state = TicketState.APPROVED if approve else TicketState.DENIED
            moved = tickets.move(db, asked, state, now=now, scope=scope, by=by, comment=comment)
            if moved is None:
                return Done(value=OperatorError(f"approval {ticket} was decided by somebody else"))
            if approve and scope is Scope.TASK:
                tickets.endorse(db, moved, _endorsed(moved))
            return Done(value=moved, events=(_decided(moved, now),), after=lambda: self._moved(moved))

        result = await self.ledger.run(answer)
        if isinstance(result, OperatorError):
            raise result
        return result

    async def expire(self) -> None:
        """Close what nobody answered, or nobody used, in time: the default is no."""
        now = self.clock()
        if not tickets.overdue(self.memory.reader, now):
            return

        def close(db: sqlite3.Connection) -> Done[None]:
            closed = [tickets.move(db, ticket, TicketState.EXPIRED, now=now) for ticket in tickets.overdue(db, now)]
            moved = [ticket for ticket in closed if ticket]
            return Done(
                value=None,
                events=[_decided(ticket, now) for ticket in moved],
                after=lambda: self._all_moved(moved),
            )

        await self.ledger.run(close)

    def _all_moved(self, moved: Iterable[Ticket]) -> None:
        for ticket in moved:
            self._moved(ticket)

    def _moved(self, ticket: Ticket) -> None:
        if memory := self.memory.task(ticket.task):
            memory.decided(ticket)
            if ticket.state is TicketState.APPROVED and ticket.scope is Scope.TASK:
                memory.endorse([(ticket.tool, *row) for row in _endorsed(ticket)])
        for woken in self._waiting.get(ticket.id, ()) if ticket.state is not TicketState.PENDING else ():
            woken.set()
        for listener in tuple(self.listeners):
            listener(ticket)


def _endorsed(ticket: Ticket) -> list[tuple[str, str, str]]:
    """(path, form, canonical value) of each unproven authority argument, and each class of data that was asked about."""
    values: list[tuple[str, str, str]] = []
    for argument in ticket.card["arguments"]:
        if argument["proof"] or not Role(argument["role"]).is_authority:
            continue
        canonical = canonical_form(Form(argument["form"]), argument["value"])
        if canonical is not None:
            values.append((argument["path"], argument["form"], canonical))
    values.extend(("flow", "", ask["detail"]) for ask in ticket.card["asks"] if ask["code"] == Code.FLOW_REFUSED)
    return values


def _decided(ticket: Ticket, now: float) -> Event:
    card: dict[str, Any] = ticket.card
    return Event(
        id=new_id("evt"),
        kind="approval.decided",
        time=now,
        payload={
            "state": ticket.state,
            "by": ticket.by,
            "scope": ticket.scope,
            "comment": ticket.comment,
            "card_sha256": digest(card),
        },
        task=ticket.task,
        agent=card["agent"],
        action=card["action"],
        server=card["server"],
        tool=card["tool"],
        verdict=ticket.state,
        ticket=ticket.id,
    )
