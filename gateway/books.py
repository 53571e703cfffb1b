"""The books: what the ledger is asked to remember of an action, from its refusal or intent to its outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from gateway.errors import Unrecordable
from gateway.options import ServerOptions
from gateway.ports import Answer, Intent, Ledger, Outcome, OutcomeKind, Road, Stale
from gateway.stages.commit import Commit, intent_for
from gateway.stages.refuse import RefusalMeter, Refuse, refusal
from gateway.stages.settle import Settle
from gateway.stores.memory import Memory
from gateway.stores.origins import origins
from policies.case import Case
from policies.reading import Reading
from policies.verdict import Code

logger = logging.getLogger(__name__)

RETRY_S = 1.0
"""How often an outcome that could not be written is tried again; the call stays `executing`, and equal ones wait."""


@dataclass(slots=True, kw_only=True)
class GatewayBooks:
    """Builds the units of `stages/` and hands them to the one writer."""

    ledger: Ledger
    memory: Memory
    road: Road
    servers: Mapping[str, ServerOptions]
    clock: Callable[[], float]
    _meter: RefusalMeter = field(default_factory=RefusalMeter)
    _syncing: dict[str, Awaitable[Intent | Stale | Answer]] = field(default_factory=dict)
    """Intents of pure reads that were sent while they were being synced."""
    _late: set[asyncio.Task[None]] = field(default_factory=set)

    async def refuse(self, case: Case) -> Answer:
        """Record why not, and say only the code. Past its rate a token's refusals are counted, not listed.

        Raises:
            Unrecordable: the refusal could not be written; it is a refusal all the same.
        """
        root = case.action.subject.root
        if not self._meter.lists(root, monotonic()):
            return refusal(case)
        found = origins(self.memory.reader, case)
        unit = Refuse(case=case, trace=found, uncounted=self._meter.counted(root), clock=self.clock)
        return await asyncio.shield(self.ledger.submit(unit).durable)  # recorded even if nobody waits any more

    async def commit(self, case: Case) -> Intent | Stale | Answer:
        """(6) The intent, durable; for a pure read as soon as it has run inside its transaction."""
        server = self.servers[case.action.server]
        intent = intent_for(
            case,
            self.road.frame(case.action),
            deadline_s=server.deadline_s,
            max_result_bytes=server.max_result_bytes,
        )
        submitted = self.ledger.submit(Commit(intent=intent, memory=self.memory, clock=self.clock), early=intent.early)
        if not intent.early or not isinstance(value := await submitted.ran, Intent):
            return await submitted.durable
        self._syncing[case.action.id] = submitted.durable
        return value

    async def settle(self, intent: Intent, outcome: Outcome) -> Answer:
        """(8, 9) Label, mark and outcome, durable; an outcome that cannot be written is kept and tried again."""
        known = outcome.label  # a road of our own knows what its result carries
        reading = self.memory.read(intent.action, outcome.result) if known is None else Reading(label=known)
        holder, was_sent = intent.action.subject.holder, outcome.kind is not OutcomeKind.NOT_SENT
        unit = Settle(
            intent=intent,
            outcome=outcome,
            reading=reading,
            mark=self.memory.mark_to_write(holder, reading.label) if was_sent else None,
            memory=self.memory,
            clock=self.clock,
        )
        syncing = self._syncing.pop(intent.action.id, None)
        settled = await self._beside_intent(unit, syncing) if syncing else self.ledger.run(unit, reserved=True)
        try:
            return await settled
        except Unrecordable:
            logger.error("outcome could not be written; trying again", extra={"action": intent.action.id})
            late = asyncio.create_task(self._settle_late(unit))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            return Answer(action=intent.action.id, code=Code.UNKNOWN_OUTCOME)

    async def _beside_intent(self, unit: Settle, syncing: Awaitable[Intent | Stale | Answer]) -> Awaitable[Answer]:
        """The outcome of a pure read, once its intent is durable. It queues right behind: one commit may hold both.

        Raises:
            Unrecordable: the intent was not written, so there is nothing whose outcome could be.
        """
        outcome = asyncio.ensure_future(self.ledger.run(unit, reserved=True))
        intended, _ = await asyncio.gather(syncing, outcome, return_exceptions=True)
        if isinstance(intended, BaseException):
            raise intended
        return outcome

    async def _settle_late(self, unit: Settle) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                await self.ledger.run(unit, reserved=True)
            except Unrecordable:
                continue
            except Exception:  # it stays executing, and its equals wait: a person sees it after the next start
                logger.exception("outcome lost", extra={"action": unit.intent.action.id})
            return

    def untold_refusals(self) -> dict[str, int]:
        """By token, the refusals that were counted and not listed since this was last asked."""
        return self._meter.untold()

    def stop(self) -> None:
        """Give up on outcomes that could not be written: their calls read as unknown at the next start."""
        for late in self._late:
            late.cancel()
