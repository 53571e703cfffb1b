"""What operators see of the model and do with it, and the model's words on calls that wait for a person.

A summary is the gateway's own request: no agent pays for it or sees it. It is shown as what it is, a model's reading of
text that somebody hostile may have written; no decision rests on it.
"""

import asyncio
import logging
import sqlite3
from dataclasses import dataclass, field
from functools import partial

from gateway.errors import LlmRefused, OperatorError
from gateway.ids import new_id
from gateway.llm.asjson import as_json
from gateway.llm.model import Model
from gateway.llm.road import LlmRoad
from gateway.stores import tickets
from gateway.stores.tickets import Ticket, TicketState
from llmcore.errors import LlmError
from llmcore.messages import Done
from llmcore.prompts import summary_prompt
from llmcore.request import Request, Sampling
from policies.jsonvalue import JSONObject

logger = logging.getLogger(__name__)

SUMMARY_TOKENS = 80
MOST_SUMMARIES = 1_000
"""Remembered at once; the oldest go first."""
OURS = "(gateway)"
"""The tenant of the gateway's own requests; no agent can be called so."""


@dataclass(slots=True, kw_only=True)
class LlmDesk:
    """Implements `ports.ModelDesk`."""

    of: Model
    road: LlmRoad
    reader: sqlite3.Connection
    _summaries: dict[str, str] = field(default_factory=dict)
    """By ticket; empty where the model had nothing to say."""
    _explaining: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time: nothing is explained twice."""

    async def seen(self) -> JSONObject:
        try:
            ready = self.of.ready()
            seen = await ready.client.look()
        except (LlmRefused, LlmError) as error:
            raise OperatorError(str(error), status=503) from error
        document: JSONObject = as_json(seen)
        return document | {"isolation": self.of.options.isolation, "window": ready.loaded.window}

    def models(self) -> list[JSONObject]:
        return [self.of.document()]

    async def generations(self) -> list[JSONObject]:
        return await self.of.on_disk(partial(self.of.kept.everyone, self.road.running()))

    async def suspend(self, generation: str, by: str) -> None:
        if not self.road.can_suspend(generation):
            raise OperatorError(f"no generation {generation} is running", status=404)
        await self.of.record("llm.suspended", {"by": by, "generation": generation})
        self.road.suspend(generation)

    async def forget(self, generation: str, by: str) -> None:
        owner = await self.of.on_disk(partial(self.of.kept.owner_of, generation))
        if owner is None:
            raise OperatorError(f"nothing is kept of a generation {generation}", status=404)
        await self.of.record("llm.forgotten", {"by": by, "generation": generation})
        await self.of.forget(owner, generation)

    def summary(self, ticket: str) -> str | None:
        return self._summaries.get(ticket) or None

    async def explain_pending(self) -> None:
        """Have the model say what each call that waits is about; one after the other, and each once."""
        if not self.of.options.summaries or not self.of.is_ready:
            return
        async with self._explaining:
            for ticket in tickets.listed(self.reader, state=TicketState.PENDING, limit=100):
                if ticket.id not in self._summaries:
                    self._summaries[ticket.id] = await self._explained(ticket)
                    while len(self._summaries) > MOST_SUMMARIES:
                        del self._summaries[next(iter(self._summaries))]

    async def _explained(self, ticket: Ticket) -> str:
        try:
            ready = self.of.ready()
            messages = summary_prompt(ticket.card)
            prompt = await asyncio.to_thread(ready.asker.prompt, {"messages": messages})
        except LlmRefused:
            return ""
        if len(prompt) + SUMMARY_TOKENS > ready.loaded.window:
            return ""
        request = Request(
            id=new_id("act"),
            tenant=OURS,
            domain=f"{OURS}\0{ticket.id}",
            prompt=tuple(prompt),
            max_tokens=SUMMARY_TOKENS,
            sampling=Sampling(temperature=0.0),
        )
        try:
            async for event in ready.client.generate(request):
                if isinstance(event, Done):
                    said = event.choices[0].text.strip()
                    payload: JSONObject = {
                        "ticket": ticket.id,
                        "model": self.of.name,
                        "summary": said,
                        "tokens": event.usage.prompt_tokens + event.usage.completion_tokens,
                    }
                    await self.of.record("approval.explained", payload, ticket=ticket.id, task=ticket.task)
                    return said
        except LlmError:
            logger.warning("a call could not be explained", extra={"ticket": ticket.id})
        return ""
