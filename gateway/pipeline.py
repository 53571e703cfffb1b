"""The reference monitor: an action reaches a tool through `Pipeline.mediate`, and through nothing else.

decide   (1) definition (2) capability (3) data flow (4) policy (5) confinement      no effects; may run again
perform  (6) commit (7) execute (8, 9) label and outcome (10) answer                 the only road to a tool
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.errors import Unrecordable
from gateway.ports import Answer, Archive, Desk, Intent, Outcome, OutcomeKind, Progress, Road, Stage, Stale
from gateway.stages.confinement import DEMANDS
from policies.action import Action
from policies.case import Case
from policies.verdict import Code, Reason, Severity

logger = logging.getLogger(__name__)

MAX_TRIES = 3
"""How often a decision may go stale between (5) and (6) before the answer is no."""

_LEFT = Outcome(kind=OutcomeKind.NOT_SENT, code=Code.UPSTREAM_FAILED, detail="the client left before it was sent")
_LOST = Outcome(kind=OutcomeKind.UNKNOWN, code=Code.UNKNOWN_OUTCOME, detail="the gateway could not read it")

OBLIGATIONS: frozenset[str] = DEMANDS
"""The obligations this gateway can keep; a verdict that carries any other is denied."""


class Books(Protocol):
    """What the ledger is asked to remember of an action (`stages/commit.py`, `stages/settle.py`)."""

    async def refuse(self, case: Case) -> Answer: ...

    async def commit(self, case: Case) -> Intent | Stale | Answer: ...

    async def settle(self, intent: Intent, outcome: Outcome) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The stages an action passes, the books that remember, the road to the tools, the desk where people are asked."""

    stages: Sequence[Stage]
    archive: Archive
    books: Books
    road: Road
    desk: Desk
    _performing: set[asyncio.Task[Answer | Stale]] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)
    """Actions whose client has gone while they were being performed."""

    async def mediate(self, action: Action, progress: Progress | None = None) -> Answer:
        """Decide, then perform, hand to a person, or refuse.

        Raises:
            Unrecordable: the ledger could not write; nothing ran.
        """
        try:
            return await self._mediate(action, progress)
        except Unrecordable:
            raise
        except Exception:  # whatever broke outside a stage: nothing was sent, or its outcome is settled below
            logger.exception("mediation failed", extra={"action": action.id})
            return Answer(action=action.id, code=Code.UNAVAILABLE)

    async def turn_away(self, action: Action, code: Code, detail: str) -> Answer | None:
        """Refuse what could not be performed even if it were allowed, as any refusal is recorded; nobody is asked.

        None: nothing else was in its way, so the caller may say what is wrong.

        Raises:
            Unrecordable: the ledger could not write.
        """
        try:
            case = await self.decide(action)
            answer = await self.books.refuse(case if case.is_denied else case.denied(code, detail))
        except Unrecordable:
            raise
        except Exception:
            logger.exception("mediation failed", extra={"action": action.id})
            return Answer(action=action.id, code=Code.UNAVAILABLE)
        return answer if case.is_denied else None

    async def _mediate(self, action: Action, progress: Progress | None) -> Answer:
        for _ in range(MAX_TRIES):
            case = await self.decide(action)
            match case.verdict.severity:
                case Severity.DENY:
                    return await self.books.refuse(case)
                case Severity.REQUIRE_APPROVAL:
                    asked = await self.desk.open(case)
                    if isinstance(asked, Reason):
                        return await self.books.refuse(case.denied(asked.code, asked.detail))
                    return asked
                case Severity.PERMIT:
                    answer = await self._owned(case, progress)
            if not isinstance(answer, Stale):
                return answer
        return await self.books.refuse(case.denied(Code.UNAVAILABLE, "rights or rules kept changing"))

    async def decide(self, action: Action) -> Case:
        """(1)-(5): each stage adds what it learned and one verdict; the strictest wins, the first Deny ends it."""
        seen = await self.archive.snapshot(action)  # one read; no stage looks at a table or a clock
        case = Case(action=action, seen=seen)
        if not self.stages:
            return case.denied(Code.UNAVAILABLE, "no stages")
        for stage in self.stages:
            case = await _consider(stage, case)
            if case.is_denied:
                return case
        if unknown := case.verdict.obligations - OBLIGATIONS:
            return case.denied(Code.POLICY_REFUSED, f"unknown obligation: {', '.join(sorted(unknown))}")
        return _approved(case)

    async def perform(self, case: Case, progress: Progress | None = None) -> Answer | Stale:
        """(6)-(10): an intent on disk, one try, an outcome on disk."""
        intent = await self.books.commit(case)  # (6) sealed: holds the very frame that will be sent
        if not isinstance(intent, Intent):
            return intent  # refused or stale: nothing was sent
        try:
            if case.action.id in self._left:  # while the intent was being written: there is nobody to act for
                return await self.books.settle(intent, _LEFT)
            outcome = await self.road.execute(intent, progress)  # (7) a value: result, tool error, not sent, or unknown
            return await self.books.settle(intent, outcome)  # (8, 9) marks and labels rise with it; (10) then it leaves
        except Unrecordable:
            raise
        except Exception:  # a road that broke its word, a result that cannot be read: the effect may have happened
            logger.exception("outcome lost", extra={"action": case.action.id})
            return await self._lost(intent)

    async def _lost(self, intent: Intent) -> Answer:
        """An outcome nobody can read is unknown; where even that cannot be written, the agent is told no less."""
        try:
            return await self.books.settle(intent, _LOST)
        except Exception:  # it was sent: whatever breaks now, "not made" would be untrue
            logger.exception("an unknown outcome could not be settled", extra={"action": intent.action.id})
            return Answer(action=intent.action.id, code=Code.UNKNOWN_OUTCOME)

    async def _owned(self, case: Case, progress: Progress | None) -> Answer | Stale:
        """`perform` in a task of ours: a client that goes away asks the tool to stop, and never skips the outcome."""
        performing = asyncio.create_task(self.perform(case, progress))
        self._performing.add(performing)
        performing.add_done_callback(self._performing.discard)
        try:
            return await asyncio.shield(performing)
        except asyncio.CancelledError:
            self._left.add(case.action.id)
            performing.add_done_callback(lambda _: self._left.discard(case.action.id))
            self.road.cancel(case.action.id)
            raise

    async def drain(self) -> None:
        """Wait for everything that was begun to have its outcome."""
        await asyncio.gather(*self._performing, return_exceptions=True)


def _approved(case: Case) -> Case:
    """The case with its asks met, where a person said yes to just this call, shown these reasons and labels as bad."""
    if not case.verdict.asks:
        return case
    call, carries = case.call_digest, case.label.bare()
    for approval in case.seen.approvals:
        met = case.verdict.asks <= approval.asks
        same = approval.call_digest == call and approval.authority == case.authority
        if met and same and carries.flows_to(approval.label):
            return replace(case, verdict=replace(case.verdict, asks=frozenset()), approval=approval)
    return case


async def _consider(stage: Stage, case: Case) -> Case:
    """One stage's contribution; a stage that cannot answer says no, and none can loosen what others said."""
    try:
        after = await stage.consider(case)
    except Exception:  # whatever broke, nothing may run
        logger.exception("stage failed", extra={"stage": stage.name, "action": case.action.id})
        return case.denied(Code.UNAVAILABLE, f"{stage.name} could not answer")
    return after.joined(case.verdict)
