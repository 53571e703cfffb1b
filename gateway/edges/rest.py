"""The operators' REST API, `/api/v1`: the same over `control.sock` and, for a console session, over loopback.

Errors are RFC 9457 problems with a `code`. Lists are keyset-paged (`limit`, `after`). An agent's token gets 403.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from audit.query import Filter, query, why
from gateway.control import Control
from gateway.desk.desk import ApprovalDesk
from gateway.edges.operators import COOKIE, KEY_HEADER, SCOPE_KEY, ConsoleSessions, Operator
from gateway.errors import OperatorError, Unrecordable
from gateway.servers import Servers
from gateway.stores import tickets
from gateway.stores.tickets import Scope, Ticket, TicketState

API = "/api/v1"
Limit = Annotated[int, Query(ge=1, le=500)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the operators' edges (REST and console) work with."""

    control: Control
    desk: ApprovalDesk
    servers: Servers
    sessions: ConsoleSessions
    reader: sqlite3.Connection
    console_url: str
    is_agent_token: Callable[[str], bool]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GrantBody(_Body):
    text: str
    allow: list[str]
    calls: int | None = None
    spend: dict[str, int] = Field(default_factory=dict)
    """Currency to minor units."""
    expires_s: float | None = None
    agent: str | None = None
    principal: str = "user"


class RevokeBody(_Body):
    what: str
    """A task's id, a root token's id, or a token."""


class SettleBody(_Body):
    action: str
    outcome: Literal["ok", "failed"]


class DecisionBody(_Body):
    decision: Literal["approve", "deny"]
    call_digest: str
    scope: Literal["once", "task"] = "once"
    comment: str = ""
    version: int | None = None


class AcceptBody(_Body):
    tool: str | None = None
    seen: str = ""
    """Digest of the definition that the person was shown; another one by now is refused."""


def rest_app(office: Office) -> FastAPI:
    """The API as an ASGI application; `docs/reference.md` lists its routes."""
    app = FastAPI(
        title="Pratique operator API", version="1", openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None
    )
    app.include_router(_routes(office))
    app.add_exception_handler(OperatorError, _problem)
    app.add_exception_handler(Unrecordable, _unrecordable)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def operator_of(office: Office, request: Request) -> Operator:
    """Who asks, by what the server itself knows of the connection or by a console session.

    Raises:
        OperatorError: 403 for an agent's token, 401 for nobody.
    """
    if by := request.scope.get(SCOPE_KEY):
        return Operator(str(by), decides=True)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and office.is_agent_token(token):
        raise OperatorError("an agent's token opens nothing here", status=403)
    operator = office.sessions.operator(request.cookies.get(COOKIE), request.headers.get(KEY_HEADER))
    if operator is None:
        raise OperatorError("open the console by the link that `pratique console` prints", status=401)
    return operator


def ticket_document(ticket: Ticket) -> dict[str, Any]:
    """A ticket as operators read it."""
    return {
        "id": ticket.id,
        "task": ticket.task,
        "state": ticket.state,
        "call_digest": ticket.call_digest,
        "version": ticket.version,
        "created": ticket.created,
        "expires": ticket.expires,
        "decided": ticket.decided,
        "by": ticket.by,
        "scope": ticket.scope,
        "comment": ticket.comment,
        "card": ticket.card,
    }


def _routes(office: Office) -> APIRouter:  # noqa: PLR0915 - one table of routes, read from top to bottom
    routes = APIRouter(prefix=API)

    def viewer(request: Request) -> Operator:
        return operator_of(office, request)

    def decider(request: Request) -> Operator:
        operator = operator_of(office, request)
        if not operator.decides:
            raise OperatorError("this session can only look: open the console by a fresh link to decide", status=403)
        return operator

    Viewer = Annotated[Operator, Depends(viewer)]
    Decider = Annotated[Operator, Depends(decider)]

    @routes.post("/tasks", status_code=201)
    async def grant(body: GrantBody, operator: Decider) -> dict[str, Any]:
        granted = await office.control.grant(**body.model_dump(), by=operator.by)
        return {
            "task": granted.task.id,
            "agent": granted.task.agent,
            "token_id": granted.token_id,
            "token": granted.token,
            "expires": granted.task.grant.expires,
        }

    @routes.get("/tasks")
    async def tasks(_: Viewer, after: str = "", limit: Limit = 100) -> dict[str, Any]:
        return {"tasks": office.control.tasks(after=after, limit=limit)}

    @routes.get("/tasks/{task}")
    async def task(task: str, _: Viewer) -> dict[str, Any]:
        return office.control.task(task)

    @routes.post("/tasks/settle")
    async def settle(body: SettleBody, operator: Decider) -> dict[str, Any]:
        call = await office.control.settle(body.action, ok=body.outcome == "ok", by=operator.by)
        return {"action": call.action, "task": call.task, "outcome": body.outcome}

    @routes.post("/tokens/revoke")
    async def revoke(body: RevokeBody, operator: Decider) -> dict[str, Any]:
        return {"task": await office.control.revoke(body.what, by=operator.by)}

    @routes.get("/servers")
    async def servers(_: Viewer) -> dict[str, Any]:
        return {"servers": office.servers.listed()}

    @routes.get("/servers/{server}")
    async def server(server: str, _: Viewer) -> dict[str, Any]:
        return office.servers.shown(server)

    @routes.get("/servers/{server}/diff")
    async def diff(server: str, _: Viewer) -> dict[str, Any]:
        return {"server": server, "changes": office.servers.diff(server)}

    @routes.post("/servers/{server}/accept")
    async def accept(server: str, body: AcceptBody, operator: Decider) -> dict[str, Any]:
        return {
            "server": server,
            "accepted": await office.servers.accept(server, body.tool, by=operator.by, seen=body.seen),
        }

    @routes.get("/approvals")
    async def approvals(
        _: Viewer, state: TicketState | None = None, task: str | None = None, after: str = "", limit: Limit = 100
    ) -> dict[str, Any]:
        found = tickets.listed(office.reader, state=state, task=task, after=after, limit=limit)
        return {"approvals": [ticket_document(ticket) for ticket in found]}

    @routes.get("/approvals/events")
    async def events(_: Viewer) -> StreamingResponse:
        return StreamingResponse(_ticket_events(office.desk), media_type="text/event-stream")

    @routes.get("/approvals/{ticket}")
    async def approval(ticket: str, _: Viewer) -> dict[str, Any]:
        found = tickets.load(office.reader, ticket)
        if found is None:
            raise OperatorError(f"no approval {ticket}", status=404)
        return ticket_document(found)

    @routes.post("/approvals/{ticket}/decisions")
    async def decide(ticket: str, body: DecisionBody, request: Request, operator: Decider) -> dict[str, Any]:
        expected = request.headers.get("if-match")
        decided = await office.desk.decide(
            ticket,
            approve=body.decision == "approve",
            by=operator.by,
            call_digest=body.call_digest,
            version=int(expected.strip('"')) if expected and expected.strip('"').isdigit() else body.version,
            scope=Scope(body.scope),
            comment=body.comment,
        )
        return ticket_document(decided)

    @routes.get("/audit")
    async def audit(
        _: Viewer,
        task: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        kind: str | None = None,
        verdict: str | None = None,
        action: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: int = -1,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        wanted = Filter(
            task=task, agent=agent, tool=tool, kind=kind, verdict=verdict, action=action, since=since, until=until
        )
        return {"events": [asdict(found) for found in query(office.reader, wanted, after=after, limit=limit)]}

    @routes.get("/audit/why/{name}")
    async def why_of(name: str, _: Viewer) -> dict[str, Any]:
        return {"events": [asdict(found) for found in why(office.reader, name)]}

    @routes.post("/console-links", status_code=201)
    async def console_link(operator: Decider) -> dict[str, Any]:
        del operator
        return {"url": f"{office.console_url}/console/enter#{office.sessions.link()}"}

    return routes


async def _ticket_events(desk: ApprovalDesk) -> AsyncIterator[str]:
    """One server-sent event per ticket that opens or moves; a comment every 15 s keeps the stream alive."""
    moved: asyncio.Queue[Ticket] = asyncio.Queue(maxsize=1000)

    def tell(ticket: Ticket) -> None:
        if not moved.full():
            moved.put_nowait(ticket)

    desk.listeners.add(tell)
    try:
        yield ": open\n\n"
        while True:
            try:
                async with asyncio.timeout(15):
                    ticket = await moved.get()
            except TimeoutError:
                yield ": alive\n\n"
                continue
            yield f"event: approval\nid: {ticket.id}:{ticket.version}\ndata: {ticket.state}\n\n"
    finally:
        desk.listeners.discard(tell)


async def _problem(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, OperatorError) else 500
    return _problem_response(status, "operator_error", str(error))


async def _unrecordable(_request: Request, error: Exception) -> Response:
    return _problem_response(503, "unavailable", f"nothing was changed: {error}")


async def _invalid(_request: Request, error: Exception) -> Response:
    said = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in said)
    return _problem_response(422, "invalid", detail)


def _problem_response(status: int, code: str, detail: str) -> Response:
    return JSONResponse(
        {"type": "about:blank", "status": status, "code": code, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )
