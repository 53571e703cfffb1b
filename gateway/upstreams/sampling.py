"""What one server has asked of the model and not been answered yet, bounded, each on behalf of one call.

A request of a legacy server names no call. It is taken for the one that is in flight, where there is exactly one, and
refused otherwise: nothing of what the server says decides on whose behalf it asks.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.ports import Sampler
from gateway.upstreams.stdio import Connection
from gateway.wire import sampling
from gateway.wire.jsonrpc import RequestId
from gateway.wire.sampling import Rejection
from gateway.wire.upstream import Asked
from policies.action import Action
from policies.jsonvalue import JSONObject
from policies.verdict import Code

logger = logging.getLogger(__name__)

MAX_OPEN = 4
"""Requests of one server that are worked on at once."""
MAX_PER_CALL = 32


@dataclass(slots=True, eq=False)
class Cause:
    """A call in flight, as the reason why its server asks."""

    action: Action
    asked: int = 0
    """How much was asked on its behalf."""
    is_over: bool = False
    """It has ended, or was called off: nothing more is asked on its behalf."""

    def may_ask(self) -> bool:
        """Count one more request; whether there is room for it."""
        self.asked += 1
        return self.asked <= MAX_PER_CALL


@dataclass(slots=True, eq=False)
class _Open:
    cause: Cause
    is_answered: bool = False


@dataclass(slots=True, kw_only=True)
class Samplings:
    """The open requests of one connection's server."""

    connection: Connection
    sampler: Sampler
    causes: Mapping[str, Cause]
    """The calls in flight, by action."""
    _open: dict[RequestId, _Open] = field(default_factory=dict)
    _forsaken: set[str] = field(default_factory=set)
    """Requests of ours that were given up on and may still be worked on: what the server asks may be for them."""
    _tasks: dict[_Open, asyncio.Task[None]] = field(default_factory=dict)

    def asked(self, asked: Asked) -> bytes | None:
        """Take one request of the server's, or return the line that refuses it."""
        if asked.method != sampling.METHOD:
            return asked.refusal
        cause = self._cause()
        if cause is None:
            return sampling.rejected(asked.id, Rejection.UNCLEAR)
        if cause.is_over:
            return sampling.rejected(asked.id, Rejection.OVER)
        if asked.id in self._open:
            return sampling.rejected(asked.id, Rejection.TWICE)
        if not cause.may_ask() or len(self._open) >= MAX_OPEN:
            return sampling.rejected(asked.id, Rejection.TOO_MANY)
        params = sampling.bounded(asked.params)
        if params is None:
            return sampling.rejected(asked.id, Rejection.INVALID)
        self._begin(asked.id, cause, params)
        return None

    def withdrawn(self, request_id: RequestId) -> None:
        """The server no longer wants this answer, and gets none."""
        if (opened := self._open.pop(request_id, None)) is not None:
            self._tasks[opened].cancel()

    def end(self, cause: Cause) -> None:
        """Nothing is asked on behalf of this call any more; what is open is refused."""
        for request_id, opened in [(id, opened) for id, opened in self._open.items() if opened.cause is cause]:
            del self._open[request_id]
            self._tasks[opened].cancel()
            if not opened.is_answered:
                self.connection.tell(sampling.rejected(request_id, Rejection.OVER))

    def forsake(self, request_id: str) -> None:
        """A request of ours got no answer; until it does, it is not clear on whose behalf the server asks."""
        self._forsaken.add(request_id)

    def late(self, request_id: str) -> None:
        self._forsaken.discard(request_id)

    async def close(self) -> None:
        """Wait until nobody works on anything; every cause has ended."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _cause(self) -> Cause | None:
        causes = list(self.causes.values())
        return causes[0] if len(causes) == 1 and not self._forsaken else None

    def _begin(self, request_id: RequestId, cause: Cause, params: JSONObject) -> None:
        opened = self._open[request_id] = _Open(cause)
        task = asyncio.create_task(self._answer(request_id, opened, params), name="upstream sampling")
        self._tasks[opened] = task
        task.add_done_callback(lambda _: self._done(request_id, opened))

    async def _answer(self, request_id: RequestId, opened: _Open, params: JSONObject) -> None:
        said = await ask(self.sampler, opened.cause.action, params)
        opened.is_answered = True
        await self.connection.say(sampling.answered(request_id, said))

    def _done(self, request_id: RequestId, opened: _Open) -> None:
        del self._tasks[opened]
        if self._open.get(request_id) is opened:
            del self._open[request_id]


async def ask(sampler: Sampler, cause: Action, params: JSONObject) -> JSONObject | Code:
    """What the sampler says; one that breaks refuses. A broad catch (decision 10): somebody waits for the answer."""
    try:
        return await sampler.sample(cause, params)
    except Exception:
        logger.exception("a sampling request broke", extra={"server": cause.server, "action": cause.id})
        return Code.UNAVAILABLE
