"""(6) commit: one unit that re-reads what was judged, reserves, consumes the approval and writes the intent.

What `decide` read was only expected: the unit looks again inside the transaction. Anything that moved makes the
decision stale; anything that is gone refuses it. Either way nothing was sent and nothing stays reserved.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from gateway.ports import Answer, Done, Intent, Stale
from gateway.stages.evidence import case_document, event_of
from gateway.stores import budgets, calls, files, tickets
from gateway.stores.budgets import Reservation
from gateway.stores.calls import Call, CallState
from gateway.stores.files import FileLabel
from gateway.stores.memory import Memory
from policies.case import Case, Pin
from policies.label import CLEAN
from policies.pack import Effect, Role
from policies.verdict import Code


def intent_for(case: Case, frame: bytes, *, deadline_s: float, max_result_bytes: int) -> Intent:
    """The sealed intent of a permitted case."""
    return Intent(
        case=case,
        frame=frame,
        deadline_s=deadline_s,
        max_result_bytes=max_result_bytes,
        reserved=reservations(case),
        early=is_pure_read(case),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The unit that turns a permitted case into a durable intent, or says why not."""

    intent: Intent
    memory: Memory
    clock: Callable[[], float]

    def __call__(self, db: sqlite3.Connection) -> Done[Intent | Stale | Answer]:
        case, now = self.intent.case, self.clock()
        action, subject = case.action, case.action.subject
        standing = _standing(db, case)
        if standing is None or standing.revoked:
            return self._refused(Code.REVOKED, "revoked between decision and commit", now)
        if subject.expires is not None and now >= subject.expires:
            return self._refused(Code.EXPIRED, "expired between decision and commit", now)
        if standing != _expected(case):
            return Done(value=Stale(), keep=False)
        authority, guarded = case.authority, is_guarded(case)
        if guarded and (other := calls.equal_open(db, authority)):
            return self._refused(Code.DUPLICATE, f"equal to {other}, whose outcome is not known yet", now)
        if case.approval and not tickets.consume(db, case.approval.ticket, now):
            return Done(value=Stale(), keep=False)
        if spent := budgets.reserve(db, subject.root, self.intent.reserved):
            return self._refused(Code.CAPABILITY_EXHAUSTED, f"budget {spent} is spent or was not granted", now)
        calls.begin(
            db,
            Call(
                action=action.id,
                task=subject.task,
                root=subject.root,
                holder=subject.holder,
                agent=subject.agent,
                server=action.server,
                tool=action.name,
                authority=authority,
                state=CallState.EXECUTING,
                guarded=guarded,
                reserved=self.intent.reserved,
                time=now,
            ),
        )
        written = self._written(db, now)
        ticket = case.approval.ticket if case.approval else ""
        payload = {
            **case_document(case),
            "frame": self.intent.frame.decode(),
            "reserved": [list(one) for one in self.intent.reserved],
            "approved_by": case.approval.by if case.approval else None,
        }
        return Done(
            value=self.intent,
            events=(event_of(action, "effect.intent", now, payload, verdict="permit", ticket=ticket),),
            after=partial(self._after, written),
        )

    def _written(self, db: sqlite3.Connection, now: float) -> tuple[FileLabel, ...]:
        """What the server may write into the operator's folders from now on: all that the holder has read. A read
        that is given nothing but what was granted tells it nothing; the pack's word is for the tool, not the server."""
        case, server = self.intent.case, self.intent.action.server
        if case.tool.effect is Effect.READ and case.label.flows_to(CLEAN):
            return ()
        direct = self.memory.files.direct(server, case.seen.mark, case.action.subject.task, now)
        return files.raise_labels(db, direct) if direct else ()

    def _after(self, written: tuple[FileLabel, ...]) -> None:
        self.memory.files.raised(written)
        if approval := self.intent.case.approval:
            self.memory.used(self.intent.action.subject.task, approval.ticket)

    def _refused(self, code: Code, detail: str, now: float) -> Done[Intent | Stale | Answer]:
        case = self.intent.case.denied(code, detail)
        event = event_of(case.action, "decision", now, case_document(case), verdict="deny")
        return Done(value=Answer(action=case.action.id, code=code), events=(event,), keep=False)


def reservations(case: Case) -> tuple[Reservation, ...]:
    """What the call takes from the grant's budgets. A spend and tokens always need one; calls only where bounded."""
    counted: tuple[Reservation, ...] = (("calls", 1),) if case.seen.grant.calls is not None else ()
    counted = (*counted, *case.action.takes)
    if case.spends is None:
        return counted
    currency, amount = case.spends
    return (*counted, (f"spend:{currency}", amount))


def is_guarded(case: Case) -> bool:
    """Whether an equal call may not run beside this one: all but declared reads and idempotent tools."""
    return case.tool.effect is not Effect.READ and not case.tool.idempotent


def is_pure_read(case: Case) -> bool:
    """Whether the fsync may overlap the call.

    The operator's pack calls it pure, its server is sealed, nothing it is given chooses a destination or a command, it
    takes from no budget, and no person was asked.
    """
    if not (case.tool.pure and case.tool.effect is Effect.READ and case.seen.sealed):
        return False
    reaches_out = any(argument.spec.role in (Role.DEST, Role.COMMAND) for argument in case.arguments)
    return not reaches_out and not reservations(case) and case.approval is None


class _Standing(NamedTuple):
    """What a decision stands on, as the store has it."""

    version: int
    revoked: bool
    definition: str | None
    pin: str | None
    policy: str | None


def _standing(db: sqlite3.Connection, case: Case) -> _Standing | None:
    """Rights, definition and policy in one read; None where the task is not known."""
    action, chain = case.action, case.action.subject.chain
    row = db.execute(
        "SELECT t.version, t.revoked"  # noqa: S608 - question marks
        f" OR EXISTS (SELECT 1 FROM revocations WHERE id IN ({', '.join('?' * len(chain))})), d.digest, d.pin,"
        " (SELECT value FROM meta WHERE key = 'policy')"
        " FROM tasks t LEFT JOIN definitions d ON d.server = ? AND d.name = ? WHERE t.id = ?",
        (*chain, action.server, action.name, action.subject.task),
    ).fetchone()
    return None if row is None else _Standing(row[0], bool(row[1]), row[2], row[3], row[4])


def _expected(case: Case) -> _Standing:
    """What `decide` read."""
    digest = case.seen.definition.digest if case.seen.definition else None
    return _Standing(case.seen.task_version, False, digest, Pin.PINNED, case.policy)
