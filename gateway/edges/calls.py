"""Calls on their way through the corridor: how many at once, what ends them early, and how the answer leaves."""

from dataclasses import dataclass

from gateway.edges.asgi import Receive, Send
from gateway.edges.flight import Ended, Flight
from gateway.edges.stream import ProgressStream
from gateway.errors import Unrecordable
from gateway.ports import Answer, Corridor, Progress
from gateway.wire import answers, legacy
from gateway.wire.asks import Call
from gateway.wire.http import JSON_TYPE, Head, Reply
from gateway.wire.jsonrpc import Message, Request, RequestId
from policies.action import Subject
from policies.verdict import Code

MAX_CALLS = 128
"""Calls in flight per root token."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request whose sender is known, and the way back to it."""

    head: Head
    subject: Subject
    message: Message
    receive: Receive
    send: Send
    is_local: bool
    """Over the forwarder's socket, where there are no intermediaries and no headers to route on."""

    @property
    def id(self) -> RequestId | None:
        return self.message.id if isinstance(self.message, Request) else None


class Calls:
    """Every call in flight."""

    def __init__(self, corridor: Corridor) -> None:
        self._corridor = corridor
        self._running: dict[str, int] = {}
        self._flights: dict[tuple[str, RequestId], Flight] = {}
        """Legacy calls by session and id: a modern one is ended by its own stream alone."""

    async def run(self, exchange: Exchange, call: Call, session_id: str | None) -> Reply | None:
        """Mediate one call; None where its answer was streamed, or nobody is there to read it."""
        encode = answers.modern if session_id is None else answers.legacy
        root = exchange.subject.root
        running = self._running.get(root, 0)
        if running >= MAX_CALLS:
            return Reply(200, encode(call.id, Answer(action="", code=Code.OVERLOADED)), (JSON_TYPE,))
        stream = None
        if call.progress_token is not None and exchange.head.takes_stream:
            stream = ProgressStream(call.progress_token, exchange.send)
        outcome: Answer | Ended = Ended.GONE
        self._running[root] = running + 1
        try:
            outcome = await self._fly(exchange, call, session_id, stream)
            match outcome:
                case Ended.GONE:
                    return None
                case Ended.CANCELLED:
                    body = legacy.cancelled(call.id)
                case Ended.REVOKED:
                    body = encode(call.id, Answer(action="", code=Code.REVOKED))
                case Answer():
                    body = encode(call.id, outcome)
            if stream and await stream.finish(body):
                return None
            return Reply(200, body, (JSON_TYPE,))
        finally:
            if stream:
                stream.abandon()
            self._running[root] -= 1
            if not self._running[root]:
                del self._running[root]

    def cancel(self, session_id: str, request_id: RequestId) -> None:
        """A session no longer wants one of its own answers; there may be none in flight under that id."""
        if flight := self._flights.get((session_id, request_id)):
            flight.end(Ended.CANCELLED)

    async def _fly(
        self, exchange: Exchange, call: Call, session_id: str | None, stream: ProgressStream | None
    ) -> Answer | Ended:
        flight = Flight(
            is_live=lambda: self._corridor.is_live(exchange.subject),
            receive=exchange.receive,
            ends_when_closed=session_id is None,
        )
        mediation = self._mediate(exchange.subject, call, stream.progress if stream else None)
        if session_id is None:
            return await flight.run(mediation)
        self._flights[session_id, call.id] = flight
        try:
            return await flight.run(mediation)
        finally:
            del self._flights[session_id, call.id]

    async def _mediate(self, subject: Subject, call: Call, progress: Progress | None) -> Answer:
        try:
            return await self._corridor.call(subject, call.server, call.tool, call.arguments, progress)
        except Unrecordable:
            return Answer(action="", code=Code.UNAVAILABLE)
