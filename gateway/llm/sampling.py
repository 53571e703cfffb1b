"""What an upstream server may ask: a sample, as an action of the agent on whose behalf it works.

The grant decides: without a rule for `llm.sample` that names the server nothing is even offered to it. The words that
go in are the server's, so they carry the worst label that its results may have; so does what is answered.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.corridor import AgentCorridor
from gateway.errors import LlmRefused, Unrecordable
from gateway.ids import new_id
from gateway.llm.asking import TOKENS, code_of, cost
from gateway.llm.model import Model
from gateway.llm.offer import SAMPLE
from gateway.options import MODEL_SERVER
from gateway.wire import sampling
from gateway.wire.sampling import SamplingAsk
from policies.action import Action, Kind
from policies.grant import Rule
from policies.jsonvalue import JSONObject
from policies.verdict import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSampler:
    """Implements `ports.Sampler`."""

    corridor_of: Callable[[], AgentCorridor]
    """Late: the road that it comes down on is a part of it."""
    of: Model

    def offers(self, task: str, server: str) -> bool:
        """Whether the task's grant has a rule for samples that this server may ask for."""
        memory = self.corridor_of().memory.task(task)
        return memory is not None and any(self._names(rule, server) for rule in memory.task.grant.rules)

    async def sample(self, cause: Action, params: JSONObject) -> JSONObject | Code:
        """A `CreateMessageResult`, or the code of the refusal."""
        ask = sampling.parse(params)
        if not isinstance(ask, SamplingAsk):  # the definition's stage says no, and the log has it
            return await self._mediated(cause, {"server": cause.server}, ())
        arguments = _arguments(ask, cause.server)
        try:
            asker = self.of.ready().asker
            prompt = await asyncio.to_thread(asker.prompt, arguments)
            takes = ((TOKENS, cost(asker.bounded(arguments, len(prompt)), len(prompt))),)
        except LlmRefused as why:
            code = code_of(why)
            refused = await self._refused(self._action(cause, arguments, ()), code, str(why))
            return refused or code
        return await self._mediated(cause, arguments, takes)

    async def _mediated(
        self, cause: Action, arguments: JSONObject, takes: tuple[tuple[str, int], ...]
    ) -> JSONObject | Code:
        try:
            answer = await self.corridor_of().held(self._action(cause, arguments, takes))
        except Unrecordable:
            return Code.UNAVAILABLE
        if answer.result is None:
            return answer.code or Code.UNAVAILABLE
        choice = answer.result["structuredContent"]["choices"][0]
        return sampling.answer(choice["text"], model=self.of.name, finish=choice["finish"])

    async def _refused(self, action: Action, code: Code, why: str) -> Code | None:
        """What else was in its way."""
        try:
            answer = await self.corridor_of().pipeline.turn_away(action, code, why)
        except Unrecordable:
            return Code.UNAVAILABLE
        return None if answer is None else answer.code

    def _action(self, cause: Action, arguments: JSONObject, takes: tuple[tuple[str, int], ...]) -> Action:
        return Action(
            id=new_id("act"),
            kind=Kind.LLM_REQUEST,
            subject=cause.subject,
            server=MODEL_SERVER,
            name=SAMPLE,
            arguments=arguments,
            takes=takes,
            carried=self.corridor_of().memory.worst_label(cause.server, cause.name),
            cause=cause.id,
        )

    def _names(self, rule: Rule, server: str) -> bool:
        if rule.server != MODEL_SERVER or rule.tool not in ("*", SAMPLE):
            return False
        named = [one.values for one in rule.constraints if one.argument in ("server", "/server")]
        return all(server in values for values in named)


def _arguments(ask: SamplingAsk, server: str) -> JSONObject:
    """The server's ask as arguments of the tool `sample`."""
    messages = [{"role": one.role, "content": one.text} for one in ask.messages]
    if ask.system:
        messages.insert(0, {"role": "system", "content": ask.system})
    arguments: JSONObject = {"server": server, "messages": messages, "max_tokens": ask.max_tokens}
    if ask.temperature is not None:
        arguments["temperature"] = ask.temperature
    if ask.stop:
        arguments["stop"] = [*ask.stop]
    return arguments
