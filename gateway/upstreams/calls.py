"""The calls that one connection carries, from the first frame to the last answer, and what the server asks meanwhile.

A legacy server asks while it works (`sampling.py`). A modern one answers that it wants something first
(`input_required`): then the same call is sent again with the answers, under an id of its own, as often as it may be and
within the one deadline. What became of such a call is what became of its last frame; where none follows the server's
wish, it was answered, and is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.errors import Unrecordable
from gateway.ports import Outcome, OutcomeKind, Progress, Sampler
from gateway.upstreams.sampling import Cause, Samplings, ask
from gateway.upstreams.stdio import Connection, Interim
from gateway.wire import sampling, upstream
from policies.action import Action
from policies.jsonvalue import JSONObject
from policies.verdict import Code

MAX_ROUNDS = 8
"""How often one call is sent again because its server wants something."""

Announce: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Told of each frame that is not the sealed one before it is sent.

Raises:
    Unrecordable: it must not be sent.
"""

_CANCELLED = "cancelled while the model was asked"
_FOR_THE_AGENT = frozenset(
    {
        Code.NO_CAPABILITY,
        Code.CAPABILITY_EXHAUSTED,
        Code.REVOKED,
        Code.EXPIRED,
        Code.FLOW_REFUSED,
        Code.POLICY_REFUSED,
        Code.DENIED_BY_PERSON,
        Code.OVERLOADED,
        Code.UNAVAILABLE,
    }
)
"""Refusals of a sample that say the same of the call that needed it; the others would speak of another action."""


@dataclass(slots=True, eq=False)
class _Call(Cause):
    request_id: str = ""
    """Of the frame that was sent last."""
    waiting: asyncio.Task[JSONObject | Code] | None = None
    """For the model, between two frames."""


@dataclass(slots=True, kw_only=True)
class Calls:
    """The calls in flight on one connection."""

    connection: Connection
    sampler: Sampler | None
    """None: the server was not told of a model."""
    _calls: dict[str, _Call] = field(default_factory=dict)
    """By action."""
    _samplings: Samplings | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._calls)

    def hear(self) -> None:
        """Take the server's own requests, where it was told that it may make any."""
        if self.sampler is None:
            return
        heard = Samplings(connection=self.connection, sampler=self.sampler, causes=self._calls)
        self.connection.on_asked = heard.asked
        self.connection.on_withdrawn = heard.withdrawn
        self.connection.on_late = heard.late
        self._samplings = heard

    async def make(
        self, action: Action, frame: bytes, ends: float, announce: Announce, progress: Progress | None = None
    ) -> Outcome:
        """One call, to its last answer, to `ends` on the loop's clock, or to the end of the server. `frame` is the
        sealed one."""
        call = self._calls[action.id] = _Call(action)
        try:
            return await self._rounds(call, frame, ends, announce, progress)
        finally:
            del self._calls[action.id]
            self._end(call)

    def cancel(self, action_id: str) -> None:
        """Ask the server to stop; what it answers within the grace still counts."""
        if (call := self._calls.get(action_id)) is not None:
            self._end(call)
            self.connection.cancel(call.request_id)

    async def close(self) -> None:
        if self._samplings is not None:
            await self._samplings.close()

    async def _rounds(
        self, call: _Call, sealed: bytes, ends: float, announce: Announce, progress: Progress | None
    ) -> Outcome:
        """Frames are numbered from 0, the sealed one."""
        loop, frame = asyncio.get_running_loop(), sealed
        for number in range(MAX_ROUNDS + 1):
            call.request_id = upstream.continuation_id(call.action.id, number)
            said = await self.connection.call(frame, call.request_id, ends - loop.time(), progress)
            if isinstance(said, Outcome):
                return self._last(call, said, is_first=number == 0)
            if number == MAX_ROUNDS:
                break
            answers = await self._answers(call, said, ends)
            if isinstance(answers, Outcome):
                return answers
            frame = upstream.continued(sealed, number + 1, answers, said.wanted.state)
            try:
                await announce(frame)
            except Unrecordable as error:
                return _over(Code.UNAVAILABLE, str(error), said.size)
            if call.is_over:
                return _over(Code.UPSTREAM_FAILED, _CANCELLED, said.size)
        return _over(Code.UPSTREAM_FAILED, f"the server wanted something more than {MAX_ROUNDS} times", said.size)

    def _last(self, call: _Call, outcome: Outcome, *, is_first: bool) -> Outcome:
        if outcome.code is Code.UPSTREAM_TIMEOUT and self._samplings is not None:
            self._samplings.forsake(call.request_id)
        if outcome.kind is OutcomeKind.NOT_SENT and not is_first:  # the frames before it were
            return _over(outcome.code, outcome.detail)
        return outcome

    async def _answers(self, call: _Call, said: Interim, ends: float) -> JSONObject | Outcome:
        """The model's answers by the server's keys, one after the other; the first refusal ends the call."""
        if self.sampler is None:
            return _over(Code.NOT_MEDIATED, "the server wants a model that it was not told of", said.size)
        loop = asyncio.get_running_loop()
        answers: JSONObject = {}
        for key, asked in said.wanted.requests.items():
            params = sampling.bounded(asked)
            if params is None or not call.may_ask():
                return _over(Code.UPSTREAM_FAILED, "the server asks the model for more than it may", said.size)
            if call.is_over:
                return _over(Code.UPSTREAM_FAILED, _CANCELLED, said.size)
            call.waiting = asyncio.create_task(ask(self.sampler, call.action, params), name="upstream sampling")
            try:
                await asyncio.wait({call.waiting}, timeout=ends - loop.time())
            finally:
                in_time = call.waiting.done()
                call.waiting.cancel()
            if not in_time:
                return _over(Code.UPSTREAM_TIMEOUT, "the model did not answer in time", said.size)
            if call.waiting.cancelled():
                return _over(Code.UPSTREAM_FAILED, _CANCELLED, said.size)
            answer = call.waiting.result()
            if isinstance(answer, Code):
                code = answer if answer in _FOR_THE_AGENT else Code.UPSTREAM_FAILED
                return _over(code, f"the server asked the model, which was refused: {answer}", said.size)
            answers[key] = answer
        return answers

    def _end(self, call: _Call) -> None:
        call.is_over = True
        if self._samplings is not None:
            self._samplings.end(call)
        if call.waiting is not None:
            call.waiting.cancel()


def _over(code: Code | None, detail: str, size: int = 0) -> Outcome:
    """The server answered that it wants something, and nothing follows: that was its answer."""
    return Outcome(kind=OutcomeKind.ERROR, code=code, detail=detail, size=size)
