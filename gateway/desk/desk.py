"""The desk: where a call waits for a person, and where a person's yes or no is written.

Only an operator's credential reaches `decide` (the edges see to it); an agent's connection never does. A yes is a
receipt for one exact call under labels no worse than those shown: the commit of that call uses it up. A no stays for
every call with the same effect, and closes what else was asked or approved with that effect. Silence is a no.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.event import Event
from gateway.desk.card import card_of
from gateway.desk.endorse import Row, endorsed_by
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.ports import Answer, Done, Ledger
from gateway.stages.commit import is_guarded
from gateway.stages.evidence import event_of
from gateway.stores import budgets, calls, tasks, tickets
from gateway.stores.memory import Memory
from gateway.stores.origins import origins
from gateway.stores.tickets import Scope, Ticket, TicketState
from policies.case import Case
from policies.jsonvalue import digest
from policies.verdict import Code, Reason

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
    is_closing: bool = False
    """Live feeds end by themselves once this is set."""
    _waiting: dict[str, set[asyncio.Event]] = field(default_factory=dict)
    _pending: dict[str, Ticket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        waiting = tickets.listed(self.memory.reader, state=TicketState.PENDING, limit=10_000)
        self._pending.update((ticket.id, ticket) for ticket in waiting)

    async def open(self, case: Case) -> Answer | Reason:
        """Write the question, or find the equal one that already waits or was just answered."""
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

        def ask(db: sqlite3.Connection) -> Done[Answer | Reason]:
            if is_guarded(case) and (other := calls.equal_open(db, ticket.authority)):
                return Done(value=Reason(Code.DUPLICATE, f"equal to {other}, whose outcome is not known yet"))
            if tickets.is_refused(db, ticket.authority):  # a person was faster than this question
                return Done(value=Reason(Code.DENIED_BY_PERSON, "a person refused a call with the same effect"))
            equal = tickets.open_for(db, ticket.call_digest)
            for one in equal:
                if one.expires > now and _covers(one, ticket):
                    return Done(value=Answer(action=case.action.id, code=Code.PENDING, ticket=one.id))
            if tickets.count_pending(db, ticket.task) >= MAX_PENDING:
                return Done(value=Reason(Code.OVERLOADED, f"{MAX_PENDING} questions of this task wait already"))
            closed = [tickets.move(db, one, TicketState.EXPIRED, now=now, comment=_ASKED_ANEW) for one in equal]
            moved = [one for one in closed if one]
            tickets.open_ticket(db, ticket)
            payload = {"card": card, "card_sha256": digest(card), "expires": ticket.expires}
            asked = event_of(case.action, "approval.requested", now, payload, verdict="ask", ticket=ticket.id)
            return Done(
                value=Answer(action=case.action.id, code=Code.PENDING, ticket=ticket.id),
                events=[*(_decided(one, now) for one in moved), asked],
                after=lambda: self._moved(*moved, ticket),
            )

        return await self.ledger.run(ask)

    def waiting(self) -> list[str]:
        """The tickets that wait for a person, oldest first."""
        return sorted(self._pending)

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

    def let_go(self) -> None:
        """Wake everybody who waits, whatever they wait for: the gateway is closing."""
        self.is_closing = True
        for waiting in self._waiting.values():
            for woken in waiting:
                woken.set()

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
            if wrong := _why_not(db, asked, call_digest, version, now):
                return Done(value=OperatorError(f"approval {ticket} {wrong}"))
            state = TicketState.APPROVED if approve else TicketState.DENIED
            given = scope if approve else Scope.ONCE
            answered = tickets.move(db, asked, state, now=now, scope=given, by=by, comment=comment)
            if answered is None:
                return Done(value=OperatorError(f"approval {ticket} was decided by somebody else"))
            endorsed: list[Row] = []
            if given is Scope.TASK:
                endorsed = endorsed_by(answered, tickets.endorsements(db, answered.task))
                tickets.endorse(db, answered, endorsed)
            others = [] if approve else _also_denied(db, answered, now)
            return Done(
                value=answered,
                events=[_decided(answered, now, endorsed), *(_decided(one, now) for one in others)],
                after=lambda: self._moved(answered, *others, endorsed=endorsed),
            )

        result = await self.ledger.run(answer)
        if isinstance(result, OperatorError):
            raise result
        return result

    async def expire(self) -> None:
        """Close what nobody answered or used in time, and what a revoked token asked: the default is no."""
        now = self.clock()
        ended = [ticket.id for ticket in self._pending.values() if self._is_over(ticket)]
        if not ended and not tickets.overdue(self.memory.reader, now):
            return

        def close(db: sqlite3.Connection) -> Done[None]:
            revoked = [one for one in (tickets.load(db, name) for name in ended) if one and one.expires > now]
            open_ = [one for one in revoked if one.state is TicketState.PENDING]
            closed = [tickets.move(db, one, TicketState.EXPIRED, now=now, comment=_REVOKED) for one in open_]
            closed += [tickets.move(db, one, TicketState.EXPIRED, now=now) for one in tickets.overdue(db, now)]
            moved = [one for one in closed if one]
            return Done(value=None, events=[_decided(one, now) for one in moved], after=lambda: self._moved(*moved))

        await self.ledger.run(close)

    def _is_over(self, ticket: Ticket) -> bool:
        """Whether whoever asked may no longer act at all."""
        memory = self.memory.task(ticket.task)
        return memory is None or memory.task.revoked or not self.memory.revoked.isdisjoint(ticket.card["chain"])

    def _moved(self, *moved: Ticket, endorsed: Sequence[Row] = ()) -> None:
        """Tell memory, whoever waits, and whoever looks, once it is durable."""
        for ticket in moved:
            if memory := self.memory.task(ticket.task):
                memory.decided(ticket)
                memory.endorse([(ticket.tool, *row) for row in endorsed])
            if ticket.state is TicketState.PENDING:
                self._pending[ticket.id] = ticket
            else:
                self._pending.pop(ticket.id, None)
                for woken in self._waiting.get(ticket.id, ()):
                    woken.set()
            for listener in tuple(self.listeners):
                listener(ticket)


_ASKED_ANEW = "asked anew: by now something else is to be asked than was shown"
_REVOKED = "whoever asked was revoked"


def _covers(asked: Ticket, ticket: Ticket) -> bool:
    """Whether the answer to what was asked answers this too: nothing worse, and of the same effect, which a changed
    pack may see elsewhere in an equal call.
    """
    is_same = asked.authority == ticket.authority
    return is_same and ticket.label.flows_to(asked.label) and ticket.asks <= asked.asks


def _why_not(db: sqlite3.Connection, asked: Ticket, call_digest: str, version: int | None, now: float) -> str:
    """Why this answer does not fit this question; empty where it does."""
    if asked.state is not TicketState.PENDING or (version is not None and asked.version != version):
        return f"is {asked.state} by now; look at it again"
    if asked.call_digest != call_digest:
        return "is for another call; look at it again"
    if asked.expires <= now:
        return "has expired"
    task = tasks.load(db, asked.task)
    if task is None or task.revoked or not tasks.revocations(db).isdisjoint(asked.card["chain"]):
        return "cannot be decided: its task or token was revoked"
    return ""


def _also_denied(db: sqlite3.Connection, denied: Ticket, now: float) -> list[Ticket]:
    """The other open questions and unused yeses with the effect of one that was denied, now denied with it."""
    comment = f"denied with {denied.id}, which has the same effect"
    moved = [
        tickets.move(db, other, TicketState.DENIED, now=now, by=denied.by, comment=comment)
        for other in tickets.open_with(db, denied.authority)
    ]
    return [one for one in moved if one]


def _decided(ticket: Ticket, now: float, endorsed: Sequence[Row] = ()) -> Event:
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
            "endorsed": [list(row) for row in endorsed],
        },
        task=ticket.task,
        agent=card["agent"],
        action=card["action"],
        server=card["server"],
        tool=card["tool"],
        verdict=ticket.state,
        ticket=ticket.id,
    )
