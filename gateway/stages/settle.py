"""(8, 9) settle: one unit that labels what came back, lets the holder's mark rise, and writes the outcome.

The label is taken at the result's last byte, before anyone reads it; the answer leaves when the unit is durable.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from gateway.ports import Answer, Done, Intent, Outcome, OutcomeKind
from gateway.stages.evidence import event_of
from gateway.stores import budgets, calls, values
from gateway.stores.budgets import Reservation
from gateway.stores.calls import CallState
from gateway.stores.codec import label_document
from gateway.stores.memory import Memory
from policies.jsonvalue import canonical
from policies.label import Label
from policies.reading import Reading
from policies.verdict import Code

_STATES = {
    OutcomeKind.OK: CallState.OK,
    OutcomeKind.ERROR: CallState.ERROR,
    OutcomeKind.NOT_SENT: CallState.NOT_SENT,
    OutcomeKind.UNKNOWN: CallState.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """The unit that closes an intent."""

    intent: Intent
    outcome: Outcome
    reading: Reading
    """What the result is worth: its label, and the values in it that may prove an argument."""
    mark: Label | None
    """The holder's mark as it has to stand on disk; None where it does already."""
    memory: Memory
    clock: Callable[[], float]

    def __call__(self, db: sqlite3.Connection) -> Done[Answer]:
        action, outcome, now = self.intent.action, self.outcome, self.clock()
        subject = action.subject
        if not calls.finish(db, action.id, _STATES[outcome.kind]):
            return Done(value=Answer(action=action.id, code=Code.UNKNOWN_OUTCOME))  # a person settled it meanwhile
        if outcome.kind is OutcomeKind.NOT_SENT:
            budgets.give_back(db, subject.root, self.intent.reserved)
        elif outcome.spent is not None:
            budgets.give_back(db, subject.root, _unspent(self.intent.reserved, outcome.spent))
        body = b"" if outcome.result is None else canonical(outcome.result)
        kept = bool(body) and values.remember(
            db,
            action=action.id,
            task=subject.task,
            server=action.server,
            tool=action.name,
            time=now,
            body=body,
            proves=bool(self.reading.atoms),
        )
        if self.mark is not None:
            values.raise_mark(db, subject.holder, self.mark)
        payload = {
            "outcome": outcome.kind,
            "detail": outcome.detail,
            "size": outcome.size,
            "label": label_document(self.reading.label),
            "result_sha256": sha256(body).hexdigest() if body else None,
        }
        event = event_of(action, "effect.outcome", now, payload, verdict=outcome.kind)
        return Done(value=self._answer(), events=(event,), after=partial(self._after, kept))

    def _after(self, kept: bool) -> None:
        if self.mark is not None:
            self.memory.raise_mark(self.intent.action.subject.holder, self.mark, durable=True)
        if kept:
            self.memory.learn(self.intent.action.subject.task, self.reading)

    def _answer(self) -> Answer:
        action = self.intent.action.id
        if self.outcome.kind is OutcomeKind.OK:
            return Answer(action=action, result=self.outcome.result)
        if self.outcome.kind is OutcomeKind.UNKNOWN and self.outcome.code is not Code.UPSTREAM_TIMEOUT:
            return Answer(action=action, code=Code.UNKNOWN_OUTCOME)  # whatever ended it: it was sent
        return Answer(action=action, code=self.outcome.code or Code.UPSTREAM_FAILED)


def _unspent(reserved: Iterable[Reservation], spent: Mapping[str, int]) -> list[Reservation]:
    """What is left of each budget that the road has an exact figure for; never more than was taken."""
    return [(name, amount - min(amount, spent[name])) for name, amount in reserved if name in spent]
