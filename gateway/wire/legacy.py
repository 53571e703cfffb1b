"""MCP up to 2025-11-25 over HTTP: a handshake opens a session, and every later message names it.

One machine holds the sessions of all clients. A session belongs to whoever opened it, on the route it was opened on:
presented by anybody else it does not exist. Its requests in flight are known by their ids, so that
`notifications/cancelled` finds them, an id cannot be used twice at a time, and never reaches another session's.
"""

from dataclasses import dataclass, field

from gateway.wire import answers
from gateway.wire.asks import ACCEPTED, Ask, Call, Cancel, List, ask, cancelled_id
from gateway.wire.http import JSON_TYPE, Head, Reply, refused
from gateway.wire.jsonrpc import (
    ErrorCode,
    Failure,
    Message,
    Notification,
    Request,
    RequestId,
    Response,
    encode,
)
from gateway.wire.versions import HANDSHAKE
from policies.action import Subject
from policies.jsonvalue import JSONObject, canonical

LATEST = HANDSHAKE[-1]
IDLE_S = 24 * 3600.0
"""A session unused for so long is gone."""
MAX_SESSIONS = 256
"""Sessions of one owner; opening one more ends the one that was used longest ago."""
SESSION_FIELD = b"mcp-session-id"


@dataclass(slots=True)
class Session:
    """One client's conversation. Transport, never authority: each request is authorised by its own token."""

    id: str
    owner: str
    version: str
    touched: float
    in_flight: set[RequestId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Opened:
    """A handshake that succeeded; the session counts once it is on disk and resumed."""

    session: Session
    reply: Reply
    displaced: tuple[str, ...] = ()
    """Sessions of the same owner that had to go for it."""


def owner_of(subject: Subject, route: str) -> str:
    """Whose a session is: the same person, agent, task, token root and route."""
    return canonical([subject.principal, subject.agent, subject.task, subject.root, route]).decode()


class Legacy:
    """All sessions that this process knows: what was opened, and rows of earlier processes, come in by `resume`."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def initialize(self, request: Request, *, owner: str, session_id: str, now: float) -> Opened | Reply:
        """Negotiate: the version that was asked for, else the newest that a handshake reaches."""
        requested = request.params.get("protocolVersion")
        if not isinstance(requested, str):
            return failed(Failure(request.id, ErrorCode.INVALID_PARAMS, "Invalid params: protocolVersion is missing"))
        session = Session(session_id, owner, requested if requested in HANDSHAKE else LATEST, now)
        displaced = self._make_room(owner)
        result: JSONObject = {
            "protocolVersion": session.version,
            "capabilities": {"tools": {}},
            "serverInfo": answers.SERVER_INFO,
        }
        reply = Reply(200, encode(Response(request.id, result)), (JSON_TYPE, (SESSION_FIELD, session_id.encode())))
        return Opened(session, reply, displaced)

    def find(self, session_id: str, owner: str, now: float) -> Session | None:
        """The session, for its owner, while it lives."""
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner or _is_idle(session, now):
            return None
        session.touched = max(session.touched, now)
        return session

    def knows(self, session_id: str) -> bool:
        return session_id in self._sessions

    def resume(self, session: Session) -> None:
        """Take in a session that is on disk; one that is already here stays as it is."""
        self._sessions.setdefault(session.id, session)

    def end(self, session_id: str) -> tuple[RequestId, ...]:
        """Forget a session; the ids of what it had in flight."""
        session = self._sessions.pop(session_id, None)
        return () if session is None else tuple(session.in_flight)

    def expired(self, now: float) -> tuple[str, ...]:
        """Sessions that nobody used for too long, and that have nothing in flight."""
        return tuple(s.id for s in self._sessions.values() if _is_idle(s, now) and not s.in_flight)

    def receive(self, session: Session, head: Head, message: Message) -> Ask:
        """One message of a session: what is asked for, or the answer to it."""
        match message:
            case Request(request_id, "ping"):
                return Reply(200, encode(Response(request_id, {})), (JSON_TYPE,))
            case Request(request_id, "initialize"):
                return failed(Failure(request_id, ErrorCode.INVALID_REQUEST, "this session is already initialized"))
            case Request():
                return self._request(session, head, message)
            case Notification("notifications/cancelled"):
                target = cancelled_id(message)
                return Cancel(target) if target is not None and target in session.in_flight else ACCEPTED
            case _:
                return ACCEPTED  # nothing of ours hangs on it; an answer to a request that we never sent is dropped

    def settled(self, session: Session, request_id: RequestId) -> None:
        """The request has its answer, or nobody waits for it any more."""
        session.in_flight.discard(request_id)

    def _request(self, session: Session, head: Head, request: Request) -> Ask:
        if request.id in session.in_flight:
            return failed(Failure(request.id, ErrorCode.INVALID_REQUEST, "a request with this id is in flight"))
        asked = ask(head, request)
        if isinstance(asked, Failure):
            return failed(asked)
        if isinstance(asked, Call | List):
            session.in_flight.add(request.id)
        return asked

    def _make_room(self, owner: str) -> tuple[str, ...]:
        mine = [session for session in self._sessions.values() if session.owner == owner]
        if len(mine) < MAX_SESSIONS:
            return ()
        return (min(mine, key=lambda session: session.touched).id,)


def failed(failure: Failure) -> Reply:
    """An error with the request's id travels as HTTP 200: a status ends some of this era's clients."""
    return Reply(400 if failure.id is None else 200, encode(failure), (JSON_TYPE,))


def no_session(request_id: RequestId | None) -> Reply:
    """404: ended, idle for too long, or somebody else's, which is the same to whoever asks."""
    return refused(404, "Session not found", request_id=request_id)


def session_missing(request_id: RequestId | None) -> Reply:
    return refused(400, "Bad Request: Mcp-Session-Id is missing", request_id=request_id)


def cancelled(request_id: RequestId) -> bytes:
    """The answer that this era still owes to a request that was cancelled."""
    return encode(Failure(request_id, ErrorCode.CANCELLED, "Request cancelled"))


def listed(request_id: RequestId, tools: list[JSONObject]) -> bytes:
    return answers.relayed(request_id, {"tools": tools})


def _is_idle(session: Session, now: float) -> bool:
    return now - session.touched > IDLE_S
