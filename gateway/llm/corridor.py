"""What the `/v1` edge may ask for an agent: each request is counted, named as an action, and mediated like any call."""

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from gateway.corridor import AgentCorridor
from gateway.errors import LlmRefused
from gateway.ids import new_id
from gateway.llm.asking import TOKENS, code_of, cost, owner
from gateway.llm.model import Model
from gateway.llm.offer import GENERATE
from gateway.llm.road import LlmRoad
from gateway.options import MODEL_SERVER
from gateway.ports import Answer, Begun, Unauthorised, Words
from gateway.stores import budgets
from llmcore.errors import SnapshotError
from policies.action import Action, Kind, Subject
from policies.jsonvalue import JSONObject
from policies.verdict import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCorridor:
    """Implements `ports.ModelCorridor`."""

    corridor: AgentCorridor
    road: LlmRoad
    of: Model

    @property
    def model(self) -> str:
        return self.of.name

    @property
    def window(self) -> int:
        return self.of.ready().loaded.window

    def admit(self, credential: str) -> Subject | Unauthorised:
        return self.corridor.admit(credential)

    def is_live(self, subject: Subject) -> bool:
        return self.corridor.is_live(subject)

    async def generate(
        self, subject: Subject, arguments: JSONObject, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        try:
            asker = self.of.ready().asker
            prompt = await asyncio.to_thread(asker.prompt, arguments)
            left = budgets.left(self.corridor.memory.reader, subject.root).get(TOKENS)
            arguments = asker.bounded(arguments, len(prompt), left)
        except LlmRefused as why:
            return await self._refused(subject, arguments, why)
        return await self._mediated(
            self._action(subject, GENERATE, arguments, ((TOKENS, cost(arguments, len(prompt))),)), words, on_begun
        )

    async def resume(
        self, subject: Subject, generation: str, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        try:
            self.of.ready()
            kept = await self.of.on_disk(partial(self.of.kept.load, owner(subject), generation))
        except LlmRefused as why:
            return await self._refused(subject, {"generation": generation}, why)
        except SnapshotError as error:
            raise LlmRefused("generation_not_found", str(error)) from error
        left = kept.remaining
        action = self._action(subject, GENERATE, {"generation": generation, "max_tokens": left}, ((TOKENS, left),))
        return await self._mediated(replace(action, carried=kept.about.label), words, on_begun)

    async def suspend(self, subject: Subject, generation: str) -> bool:
        mine = owner(subject)
        if not self._may(subject, generation) or not self.road.can_suspend(generation, mine):
            return False
        by = f"agent:{subject.agent} {subject.token}"
        await self.of.record("llm.suspended", {"by": by, "generation": generation}, task=subject.task)
        return self.road.suspend(generation, mine)

    async def generations(self, subject: Subject) -> list[JSONObject]:
        if not self._may(subject, "act_"):
            return []
        return await self.of.on_disk(partial(self.of.kept.listed, owner(subject), self.road.running(owner(subject))))

    async def _refused(self, subject: Subject, arguments: JSONObject, why: LlmRefused) -> Answer:
        """What the model cannot take is decided and on record like any other request. Whoever may ask is told what is
        wrong with it.

        Raises:
            LlmRefused: nothing but this was in its way.
        """
        action = self._action(subject, GENERATE, {"max_tokens": 1, **arguments}, ())
        answer = await self.corridor.pipeline.turn_away(action, code_of(why), str(why))
        if answer is None:
            raise LlmRefused(why.code, why.message, action.id) from why
        return answer

    def _may(self, subject: Subject, generation: str) -> bool:
        """Whether this very token, narrowed as it may be, covers going on with it."""
        arguments: JSONObject = {"generation": generation, "max_tokens": 1}
        corridor = self.corridor
        found = corridor.authority.authorise(subject, MODEL_SERVER, GENERATE, arguments, corridor.clock())
        return isinstance(found, tuple)

    def _action(self, subject: Subject, name: str, arguments: JSONObject, takes: tuple[tuple[str, int], ...]) -> Action:
        return Action(
            id=new_id("act"),
            kind=Kind.LLM_REQUEST,
            subject=subject,
            server=MODEL_SERVER,
            name=name,
            arguments=arguments,
            takes=takes,
        )

    async def _mediated(self, action: Action, words: Words | None, on_begun: Begun | None) -> Answer:
        with self.road.heard(action.id, words, on_begun) as heard:
            answer = await self.corridor.held(action)
        if heard.refused and answer.code is Code.ARGUMENTS_INVALID:  # by the engine, and on record
            raise LlmRefused(Code.ARGUMENTS_INVALID, heard.refused, action.id)
        return answer
