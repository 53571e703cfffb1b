"""Generations on their way: how many at once, what ends them early, and how the answer leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.edges.asgi import Receive, Send
from gateway.edges.flight import Ended, Flight
from gateway.edges.openai import failures
from gateway.edges.openai.answers import Envelope, Form
from gateway.edges.openai.bodies import How
from gateway.edges.openai.failures import Failure
from gateway.edges.openai.stream import CompletionStream
from gateway.errors import LlmRefused, Unrecordable
from gateway.ports import Answer, Begun, ModelCorridor, Words
from policies.action import Subject
from policies.jsonvalue import JSONObject

MAX_GENERATIONS = 128
"""In flight per root token, held and queued ones included: each keeps its request in memory."""

Begin: TypeAlias = Callable[[Words | None, Begun | None], Awaitable[Answer]]
"""Starts what was asked of the corridor."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request whose sender is known, and the way back to it."""

    corridor: ModelCorridor
    subject: Subject
    receive: Receive
    send: Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A generation, and what its answer should look like."""

    begin: Begin
    form: Form
    how: How
    created: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class _Generated:
    """What a generation came to."""

    action: str
    choices: list[JSONObject]
    usage: JSONObject


class Generations:
    """Every generation in flight."""

    def __init__(self, keep_alive_s: float) -> None:
        self._keep_alive_s = keep_alive_s
        self._running: dict[str, int] = {}

    async def run(self, exchange: Exchange, wanted: Wanted) -> JSONObject | Failure | None:
        """The whole answer, or why there is none; None where it was streamed, or nobody is there to read it."""
        root = exchange.subject.root
        running = self._running.get(root, 0)
        if running >= MAX_GENERATIONS:
            return failures.OVERLOADED
        self._running[root] = running + 1
        try:
            return await (self._streamed if wanted.how.stream else self._whole)(exchange, wanted)
        finally:
            self._running[root] -= 1
            if not self._running[root]:
                del self._running[root]

    async def _whole(self, exchange: Exchange, wanted: Wanted) -> JSONObject | Failure | None:
        outcome = await _flight(exchange).run(_generated(wanted.begin(None, None)))
        match outcome:
            case Ended():
                return _cut(outcome)
            case Failure():
                return outcome
            case _Generated(action, choices, usage):
                return _envelope(exchange, wanted, action).completion(choices, usage)

    async def _streamed(self, exchange: Exchange, wanted: Wanted) -> Failure | None:
        stream = CompletionStream(
            exchange.send,
            _envelope(exchange, wanted, ""),
            include_usage=wanted.how.include_usage,
            keep_alive_s=self._keep_alive_s,
        )
        outcome = await _flight(exchange).run(_spoken(stream, wanted))
        failure = _cut(outcome) if isinstance(outcome, Ended) else outcome
        if failure is not None and stream.is_open:
            await stream.fail(failure)
            return None
        return failure


async def _spoken(stream: CompletionStream, wanted: Wanted) -> Failure | None:
    """The generation, written as it comes; a failure is still to be said."""
    async with asyncio.TaskGroup() as group:
        group.create_task(stream.write())
        outcome = await _generated(wanted.begin(stream.words, stream.begun))
        stream.over()
    if isinstance(outcome, Failure):
        return outcome
    stream.begun(outcome.action)
    await stream.finish(outcome.choices, outcome.usage)
    return None


async def _generated(answering: Awaitable[Answer]) -> _Generated | Failure:
    try:
        answer = await answering
    except LlmRefused as why:
        return failures.refused(why)
    except Unrecordable:
        return failures.UNRECORDABLE
    result = answer.result
    if answer.code is not None or result is None or result.get("isError"):
        return failures.decided(answer)
    generated = result["structuredContent"]
    for choice in generated["choices"]:
        if failure := failures.ended(choice["finish"], answer.action):
            return failure
    return _Generated(answer.action, generated["choices"], generated["usage"])


def _flight(exchange: Exchange) -> Flight:
    return Flight(
        is_live=lambda: exchange.corridor.is_live(exchange.subject), receive=exchange.receive, ends_when_closed=True
    )


def _cut(ended: Ended) -> Failure | None:
    """What is said to a client whose generation was cut short; nothing to one that has gone."""
    return failures.REVOKED if ended is Ended.REVOKED else None


def _envelope(exchange: Exchange, wanted: Wanted, action: str) -> Envelope:
    return Envelope(form=wanted.form, action=action, model=exchange.corridor.model, created=wanted.created)
