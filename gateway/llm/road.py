"""The road to the model: an intent becomes a generation, its words go to whoever listens, its end is the outcome.

The label of what is said is known before the first word: the join of what went in. So the holder's mark has risen by
then, as it has before the first number of any tool's progress. A token that is revoked ends its generations within
`LOOK_S`; a client that has gone ends its own at once, and the blocks are free a step later.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from gateway.errors import LlmRefused
from gateway.llm import extracts
from gateway.llm.asjson import as_json
from gateway.llm.asking import TOKENS, owner
from gateway.llm.kept import About, KeptGeneration
from gateway.llm.model import Model, Ready
from gateway.llm.offer import EXTRACT
from gateway.ports import Begun, Intent, Outcome, OutcomeKind, Progress, Words
from gateway.stores.memory import Memory
from llmcore.client import Generation
from llmcore.errors import LlmError
from llmcore.extraction import Answer as Typed
from llmcore.messages import Delta, Done, NotTaken
from llmcore.request import Finish, RefusalCode
from policies.action import Action, Subject
from policies.jsonvalue import JSONObject, canonical
from policies.label import Label
from policies.verdict import Code

logger = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often a running generation's token is looked at again."""

_CODES = {
    RefusalCode.OVERLOADED: Code.OVERLOADED,
    RefusalCode.QUOTA: Code.OVERLOADED,
    RefusalCode.PROMPT_TOO_LONG: Code.ARGUMENTS_INVALID,
    RefusalCode.INVALID: Code.ARGUMENTS_INVALID,
}


@dataclass(slots=True)
class Heard:
    """Who hears a generation while it runs."""

    words: Words | None
    begun: Begun | None
    refused: str = ""
    """What the engine finds wrong with the request itself."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """One generation that runs, and why it was stopped if it was."""

    subject: Subject
    generation: Generation
    stopped: Code | None = None
    reason: str = ""

    def stop(self, code: Code, reason: str) -> None:
        if self.stopped is None:
            self.stopped, self.reason = code, reason
            self.generation.cancel()

    def outcome(self, done: Done, typed: Typed | None, spent: dict[str, int], label: Label) -> Outcome:
        """What became of it."""
        failed = next((one for one in done.choices if one.finish is Finish.FAILED), None)
        if self.stopped is not None:
            return _ended(self.stopped, self.reason, spent, label)
        if failed is not None and all(one.finish is Finish.FAILED for one in done.choices):
            return _ended(Code.UPSTREAM_FAILED, failed.detail, spent, label)
        if typed is not None:
            return _typed(typed, done, spent, label)
        body: JSONObject = {
            "choices": [as_json(one) for one in done.choices],
            "usage": as_json(done.usage),
        }
        return _said({"content": [], "structuredContent": body}, spent, label)


@dataclass(slots=True, kw_only=True)
class LlmRoad:
    """Implements `ports.Road` for the server `llm`."""

    of: Model
    memory: Memory
    _heard: dict[str, Heard] = field(default_factory=dict)
    _runs: dict[str, _Run] = field(default_factory=dict)
    _asking: set[str] = field(default_factory=set)
    """Being executed, whether they run yet or not."""
    _called_off: set[str] = field(default_factory=set)
    """Cancelled while they were still being asked."""
    _is_closing: bool = False

    @contextlib.contextmanager
    def heard(self, action: str, words: Words | None, begun: Begun | None) -> Iterator[Heard]:
        """Within the block, what is said for this action is told."""
        heard = self._heard[action] = Heard(words, begun)
        try:
            yield heard
        finally:
            del self._heard[action]

    def frame(self, action: Action) -> bytes:
        """What the engine is asked, and in which model's name."""
        return canonical({"id": action.id, "model": self.of.name, "name": action.name, "arguments": action.arguments})

    def cancel(self, action_id: str) -> None:
        if (run := self._runs.get(action_id)) is not None:
            run.stop(Code.UPSTREAM_FAILED, "cancelled")
        elif action_id in self._asking:  # every road is told of every call that is cancelled
            self._called_off.add(action_id)

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        """Run the generation to its end. Never raises."""
        del progress  # words are told to whoever listens, numbers would say nothing more
        self._asking.add(intent.action.id)
        label = intent.case.label  # words of it may have left
        try:
            return await self._execute(intent)
        except LlmRefused as refused:
            return Outcome(kind=OutcomeKind.NOT_SENT, code=Code.UNAVAILABLE, detail=str(refused))
        except LlmError as error:
            return _ended(Code.UPSTREAM_FAILED, str(error), None, label)
        except Exception:  # a broad catch (decision 10): a call without an outcome would look as if it still ran
            logger.exception("the road to the model broke", extra={"action": intent.action.id})
            return _ended(Code.UPSTREAM_FAILED, "the road to the model broke", None, label)
        finally:
            self._asking.discard(intent.action.id)
            self._called_off.discard(intent.action.id)

    def can_suspend(self, generation: str, owned_by: str | None = None) -> bool:
        """Whether it runs, can be gone on with, and is that owner's."""
        return generation in self.running(owned_by) and self.of.is_resumable(generation)

    def suspend(self, generation: str, owned_by: str | None = None) -> bool:
        """Stop a running generation and keep it; False where that cannot be done."""
        if not self.can_suspend(generation, owned_by):
            return False
        self._runs[generation].generation.suspend()
        return True

    def suspend_all(self) -> None:
        """The gateway is closing: what runs is kept, to be resumed by its owner; so is what has yet to begin."""
        self._is_closing = True
        for run in self._runs.values():
            run.generation.suspend()

    def running(self, owned_by: str | None = None) -> frozenset[str]:
        """The ids that run now."""
        return frozenset(id for id, run in self._runs.items() if owned_by in (None, owner(run.subject)))

    # ---- one generation -----------------------------------------------------------------------------------------

    async def _execute(self, intent: Intent) -> Outcome:
        action, ready, typed = intent.action, self.of.ready(), None
        if TOKENS not in dict(intent.reserved):
            raise LlmRefused("unavailable", "it was decided on before the model was there to count its tokens")
        if action.name == EXTRACT:
            typed = extracts.answer_of(self.of.extracts[str(action.arguments["as"])])
        label = intent.case.label if typed is None else extracts.risen(typed, intent.case.label)
        self.of.watch(action)
        if (wanted := _resumed(action)) is not None:
            kept = await self.of.on_disk(partial(self.of.kept.load, owner(action.subject), wanted))
            generation, before = self._restored(ready, action, kept, intent.case.label), kept.said
        else:
            generation, before = await self._asked(ready, action, intent.case.label), 0
        run = self._runs[action.id] = _Run(subject=action.subject, generation=generation)
        if action.id in self._called_off:
            self.cancel(action.id)
        elif self._is_closing:
            generation.suspend()
        looking = asyncio.create_task(self._look(run))
        try:
            async with asyncio.timeout(intent.deadline_s):
                done = await self._told(action, label, generation, self._heard.get(action.id))
        except TimeoutError:
            run.stop(Code.UPSTREAM_TIMEOUT, f"not done within {intent.deadline_s:g} s")
            done = await self._told(action, label, generation, None)
        finally:
            looking.cancel()
            del self._runs[action.id]
        if isinstance(done, NotTaken):
            code = _CODES[done.refused.code]
            if code is Code.ARGUMENTS_INVALID and (heard := self._heard.get(action.id)) is not None:
                heard.refused = done.refused.reason
            return Outcome(kind=OutcomeKind.NOT_SENT, code=code, detail=done.refused.reason)
        await self._forget(action, done)
        fresh = max(0, done.usage.completion_tokens - before)
        spent = {TOKENS: fresh + (0 if _resumed(action) else done.usage.prompt_tokens)}
        if _is_suspended(done) and not await self.of.on_disk(
            partial(self.of.kept.has, owner(action.subject), action.id)
        ):
            return _ended(Code.UNAVAILABLE, "it was suspended, and is not kept", spent, label)
        return run.outcome(done, typed, spent, label)

    async def _asked(self, ready: Ready, action: Action, label: Label) -> Generation:
        arguments = action.arguments
        if action.name == EXTRACT:
            arguments = self.of.extraction(arguments)
        prompt = await asyncio.to_thread(ready.asker.prompt, arguments)
        about = About(
            label=label.coarse(),
            chat="messages" in arguments,
            task=action.subject.task,
            agent=action.subject.agent,
        )
        return ready.client.generate(ready.asker.request(action, prompt, arguments, about))

    def _restored(self, ready: Ready, action: Action, kept: KeptGeneration, label: Label) -> Generation:
        """Restored under labels no fewer than it had: what was kept is in the case by `Action.carried`."""
        if not kept.about.label.bare().flows_to(label.bare()):
            raise LlmRefused("invalid_value", "what was kept is labelled worse than was decided on")
        subject = action.subject
        request = msgspec.structs.replace(
            kept.snapshot.request,
            id=action.id,
            tenant=subject.holder,
            domain=ready.asker.domain(subject, label),
            owner=owner(subject),
            label=replace(kept.about, label=label.coarse(), agent=subject.agent).text(),
        )
        return ready.client.restore(action.id, kept.body, request)

    async def _told(self, action: Action, label: Label, generation: Generation, heard: Heard | None) -> Done | NotTaken:
        """The end of the generation; what comes before it is told to whoever hears it, once the mark has risen."""
        if heard is not None and heard.begun is not None:
            heard.begun(action.id)
        words = heard.words if heard is not None else None
        exposed = False
        async for event in generation:
            if isinstance(event, Done | NotTaken):
                return event
            if words is not None:
                if not exposed:
                    self.memory.raise_mark(action.subject.holder, label)
                    exposed = True
                words(_piece(event))
        raise LlmError("the generation ended without an end")

    async def _look(self, run: _Run) -> None:
        """Rights are looked at again while it runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self.memory.is_live(run.subject):
                run.stop(Code.REVOKED, "the token was revoked or has expired while it was generating")
                return

    async def _forget(self, action: Action, done: Done) -> None:
        """What was kept of it, unless it was suspended; and what it was resumed from."""
        mine = owner(action.subject)
        if not _is_suspended(done):
            await self.of.forget(mine, action.id)
        if (resumed := _resumed(action)) is not None:
            await self.of.forget(mine, resumed)


def _is_suspended(done: Done) -> bool:
    return any(one.finish is Finish.SUSPENDED for one in done.choices)


def _resumed(action: Action) -> str | None:
    """The generation that the action goes on with, if it does."""
    wanted = action.arguments.get("generation")
    return None if wanted is None else str(wanted)


def _ended(code: Code, detail: str, spent: dict[str, int] | None, label: Label) -> Outcome:
    return Outcome(kind=OutcomeKind.ERROR, code=code, detail=detail, spent=spent, label=label)


def _typed(typed: Typed, done: Done, spent: dict[str, int], label: Label) -> Outcome:
    """The value of a typed question."""
    choice = done.choices[0]
    if choice.finish is not Finish.STOP:
        return _ended(Code.UPSTREAM_FAILED, "the answer was cut", spent, label)  # 12 of 123 is an integer too
    try:
        value = typed.parse(choice.text)
    except ValueError as error:
        return _ended(Code.UPSTREAM_FAILED, f"no answer of the type: {error}", spent, label)
    body: JSONObject = {"value": value}
    text = canonical(body).decode()
    return _said({"content": [{"type": "text", "text": text}], "structuredContent": body}, spent, label)


def _said(result: JSONObject, spent: dict[str, int], label: Label) -> Outcome:
    return Outcome(kind=OutcomeKind.OK, result=result, size=len(canonical(result)), spent=spent, label=label)


def _piece(delta: Delta) -> JSONObject:
    return {"index": delta.index, "text": delta.text, "tokens": as_json(delta.tokens)}
