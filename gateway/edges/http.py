"""The `/mcp` path: an ASGI application in front of all others that turns bytes into asks of the corridor, and back.

    path, host, verb, media types   wire/http.py, before the body
    who                             the corridor admits the token, at every request: a session is no authority
    body                            bounded in size and time
    which era, what is asked        wire/modern.py, wire/legacy.py
    the answer                      plain JSON, or a stream once there is progress (`calls.py`)

It decides nothing. Any other path goes to the application behind it.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.edges.asgi import ENDS, ASGIApp, ClientGone, Receive, Scope, Send, is_local, read_body, write
from gateway.edges.calls import Calls, Exchange
from gateway.edges.sessions import Sessions, SessionStore
from gateway.errors import Unrecordable
from gateway.ports import Corridor, Unauthorised
from gateway.wire import jsonrpc, legacy, modern
from gateway.wire.asks import ACCEPTED, Call, Cancel, List, Unmediated
from gateway.wire.http import JSON_TYPE, MAX_BODY, METADATA_PATH, Door, Head, Reply, find_id, refused
from gateway.wire.jsonrpc import ErrorCode, Failure, Malformed, Request, RequestId
from gateway.wire.legacy import Legacy, Session
from gateway.wire.mirrors import Mirror
from policies.action import Subject

MirrorsOf: TypeAlias = Callable[[Subject, str, str], Sequence[Mirror]]
"""Which arguments of (subject, server, tool) are mirrored in headers; of a tool out of the subject's reach, none."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
STRANGER_BODY = 64 * 1024
"""Bytes that are read from whoever has no token, to say no with the request's id."""


class Edge:
    """The gateway's face to agents."""

    def __init__(
        self,
        corridor: Corridor,
        store: SessionStore,
        fallback: ASGIApp,
        *,
        public: str,
        hosts: frozenset[str] = LOOPBACK,
        mirrors_of: MirrorsOf = lambda _subject, _server, _tool: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._corridor = corridor
        self._fallback = fallback
        self._door = Door(hosts, public)
        self._mirrors_of = mirrors_of
        self._legacy = Legacy()
        self._sessions = Sessions(self._legacy, store, clock)
        self._calls = Calls(corridor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == "/mcp" or path.startswith(("/mcp/", METADATA_PATH))):
            await self._fallback(scope, receive, send)
            return
        try:
            reply = await self._exchange(scope, receive, send)
        except ClientGone:
            return
        if reply is not None:
            await write(reply, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        """One request; None where its answer was streamed, or nobody is there to read it."""
        if scope["path"].startswith(METADATA_PATH):
            return self._door.metadata(scope["path"]) or refused(404, "Not Found")
        head = self._door.read(scope["method"], scope["raw_path"], scope["headers"])
        if isinstance(head, Reply):
            return head
        subject = self._admit(head)
        if isinstance(subject, Unauthorised):
            return await self._turn_away(head, subject, receive)
        if head.verb == "DELETE":
            return await self._delete(head, subject)
        body = await read_body(receive, MAX_BODY)
        if isinstance(body, Reply):
            return body
        message = jsonrpc.parse(body)
        if isinstance(message, Malformed):
            return _malformed(head, message, body)
        exchange = Exchange(head, subject, message, receive, send, is_local(scope))
        try:
            return await (self._modern(exchange) if modern.is_modern(head, message) else self._by_session(exchange))
        except Unrecordable:
            return legacy.failed(Failure(exchange.id, ErrorCode.INTERNAL_ERROR, "the gateway cannot record now"))

    def _admit(self, head: Head) -> Subject | Unauthorised:
        credential = head.credential
        if credential is None:
            return Unauthorised("a bearer token is needed; `pratique grant` makes one")
        return self._corridor.admit(credential)

    async def _turn_away(self, head: Head, stranger: Unauthorised, receive: Receive) -> Reply:
        body = await read_body(receive, STRANGER_BODY) if head.verb == "POST" else b""
        request_id = find_id(body[:ENDS], body[-ENDS:]) if isinstance(body, bytes) else None
        return self._door.challenge(head.route, stranger.reason, request_id)

    async def _modern(self, exchange: Exchange) -> Reply | None:
        asked = modern.receive(exchange.head, exchange.message)
        match asked:
            case Call():
                return self._mismatch(exchange, asked) or await self._calls.run(exchange, asked, None)
            case List():
                tools = await self._corridor.tools(exchange.subject, exchange.head.server)
                return Reply(200, modern.listed(asked.id, tools), (JSON_TYPE,))
            case Unmediated():
                await self._corridor.refuse_method(exchange.subject, asked.method, asked.params)
                return modern.failed(asked.refusal)
            case Cancel():
                return ACCEPTED
            case Reply():
                return asked

    def _mismatch(self, exchange: Exchange, call: Call) -> Reply | None:
        if exchange.is_local:
            return None
        return modern.check_mirrors(exchange.head, call, self._mirrors_of(exchange.subject, call.server, call.tool))

    async def _by_session(self, exchange: Exchange) -> Reply | None:
        message, owner = exchange.message, legacy.owner_of(exchange.subject, exchange.head.route)
        session_id = exchange.head.field(legacy.SESSION_FIELD)
        session = await self._sessions.find(session_id, owner) if session_id else None
        if session is not None:
            return await self._in_session(exchange, session)
        if isinstance(message, Request) and message.method == "initialize":
            return await self._sessions.open(message, owner)
        return legacy.no_session(exchange.id) if session_id else legacy.session_missing(exchange.id)

    async def _in_session(self, exchange: Exchange, session: Session) -> Reply | None:
        asked = self._legacy.receive(session, exchange.head, exchange.message)
        match asked:
            case Call(request_id):
                try:
                    return await self._calls.run(exchange, asked, session.id)
                finally:
                    self._legacy.settled(session, request_id)
            case List(request_id):
                try:
                    tools = await self._corridor.tools(exchange.subject, exchange.head.server)
                finally:
                    self._legacy.settled(session, request_id)
                return Reply(200, legacy.listed(request_id, tools), (JSON_TYPE,))
            case Unmediated():
                await self._corridor.refuse_method(exchange.subject, asked.method, asked.params)
                return legacy.failed(asked.refusal)
            case Cancel(request_id):
                self._calls.cancel(session.id, request_id)
                return ACCEPTED
            case Reply():
                return asked

    async def _delete(self, head: Head, subject: Subject) -> Reply:
        """The client ends its session; what it still had in flight is cancelled."""
        session_id = head.field(legacy.SESSION_FIELD)
        if session_id is None:
            return legacy.session_missing(None)
        session = await self._sessions.find(session_id, legacy.owner_of(subject, head.route))
        if session is None:
            return legacy.no_session(None)
        for request_id in tuple(session.in_flight):
            self._calls.cancel(session_id, request_id)
        try:
            await self._sessions.end(session_id)
        except Unrecordable:
            return refused(503, "the session cannot be ended now", code=ErrorCode.INTERNAL_ERROR)
        return Reply(200)


def _malformed(head: Head, malformed: Malformed, body: bytes) -> Reply:
    """A body that is no message, answered under its id where that can be seen."""
    request_id: RequestId | None = malformed.id
    if request_id is None:
        request_id = find_id(body[:ENDS], body[-ENDS:])
    failure = Failure(request_id, malformed.code, malformed.message)
    return modern.failed(failure) if modern.claims(head) else legacy.failed(failure)
