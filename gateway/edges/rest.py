"""The operators' REST API, `/api/v1`: the same over `control.sock` and, for a console session, over loopback.

Errors are RFC 9457 problems with a `code`. Lists are keyset-paged (`limit`, `after`; `next` is the page to come). Times
are RFC 3339. An agent's token gets 403.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from audit import query as events
from audit.query import Filter
from gateway.control import Control
from gateway.desk.desk import ApprovalDesk
from gateway.edges.documents import event_document, instant, rfc3339, task_document, ticket_document
from gateway.edges.feed import MAX_FEEDS, feed
from gateway.edges.gate import Gate
from gateway.edges.model import model_routes
from gateway.edges.operators import COOKIE, KEY_HEADER, SCOPE_KEY, ConsoleSessions, Operator
from gateway.edges.problems import answer_problems
from gateway.edges.workspaces import workspace_routes
from gateway.errors import OperatorError
from gateway.ports import ModelDesk
from gateway.servers import Servers
from gateway.stores import tickets
from gateway.stores.tickets import Scope, Ticket, TicketState
from gateway.workspaces import Workspaces

API = "/api/v1"
POLICY = "default-src 'none'; frame-ancestors 'none'"
MAX_INTEGER = 2**53 - 1
YEAR_S = 365 * 86400.0

Limit = Annotated[int, Query(ge=1, le=500)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
Count = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the operators' edges (REST and console) work with."""

    control: Control
    desk: ApprovalDesk
    servers: Servers
    workspaces: Workspaces
    sessions: ConsoleSessions
    reader: sqlite3.Connection
    console_url: str
    is_agent_token: Callable[[str], bool]
    model: ModelDesk | None = None
    """None where no `[llm]` is configured."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GrantBody(_Body):
    text: Annotated[str, Field(max_length=10_000)]
    allow: Annotated[list[Annotated[str, Field(max_length=10_000)]], Field(max_length=500)]
    calls: Count | None = None
    spend: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Count] = Field(default_factory=dict)
    """Currency to minor units."""
    tokens: Count | None = None
    bits: Count | None = None
    expires_s: Annotated[float, Field(gt=0, le=10 * YEAR_S, allow_inf_nan=False)] | None = None
    agent: Name | None = None
    principal: Name = "user"


class RevokeBody(_Body):
    what: Annotated[str, Field(max_length=100_000)]
    """A task's id, a root token's id, or a token."""


class SettleBody(_Body):
    action: str
    outcome: Literal["ok", "failed"]


class DecisionBody(_Body):
    decision: Literal["approve", "deny", "edit"]
    """`edit` is refused: this version has no edited arguments."""
    call_digest: str
    """Of the card that was seen."""
    scope: Literal["once", "task"] = "once"
    comment: Annotated[str, Field(max_length=2_000)] = ""
    version: int | None = None
    """Of the card that was seen; `If-Match: "N"` says the same."""


class AcceptBody(_Body):
    tool: str | None = None
    seen: str = ""
    """Digest of the definition that the person was shown; another one by now is refused."""


def rest_app(office: Office) -> Gate:
    """The API behind its gate."""
    return Gate(api(office), is_agent_token=office.is_agent_token, policy=POLICY)


def api(office: Office) -> FastAPI:
    """The API's routes and its OpenAPI document; `docs/reference.md` lists them."""
    app = FastAPI(
        title="Pratique operator API", version="1", openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None
    )
    app.include_router(_routes(office))
    looks, acts = partial(operator_of, office), partial(decider_of, office)
    app.include_router(workspace_routes(API, lambda: office.workspaces, looks, acts))
    app.include_router(model_routes(API, lambda: office.model, lambda: office.reader, looks, acts))
    answer_problems(app)
    return app


def operator_of(office: Office, request: Request) -> Operator:
    """Who asks, by what the server itself knows of the connection or by a console session.

    Raises:
        OperatorError: nobody we know (401).
    """
    if by := request.scope.get(SCOPE_KEY):
        return Operator(str(by), decides=True)
    operator = office.sessions.operator(request.cookies.get(COOKIE), request.headers.get(KEY_HEADER))
    if operator is None:
        raise OperatorError("open the console by the link that `pratique console` prints", status=401)
    return operator


def decider_of(office: Office, request: Request) -> Operator:
    """Who asks, if they may change anything.

    Raises:
        OperatorError: nobody we know (401), or somebody who may only look (403).
    """
    operator = operator_of(office, request)
    if not operator.decides:
        raise OperatorError("this session can only look: open the console by a fresh link to decide", status=403)
    return operator


def _routes(office: Office) -> APIRouter:
    routes = APIRouter(prefix=API)

    def viewer(request: Request) -> Operator:
        return operator_of(office, request)

    def decider(request: Request) -> Operator:
        return decider_of(office, request)

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
            "expires": rfc3339(granted.task.grant.expires),
        }

    @routes.get("/tasks")
    async def tasks(_: Viewer, after: str = "", limit: Limit = 100) -> dict[str, Any]:
        return _page("tasks", [task_document(one) for one in office.control.tasks(after=after, limit=limit)], limit)

    @routes.get("/tasks/{task}")
    async def task(task: str, _: Viewer) -> dict[str, Any]:
        return task_document(office.control.task(task))

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
        return _page("approvals", [_shown(office, ticket) for ticket in found], limit)

    @routes.get("/approvals/events", response_class=StreamingResponse)
    async def approval_events(request: Request, _: Viewer) -> StreamingResponse:
        if len(office.desk.listeners) >= MAX_FEEDS:
            raise OperatorError("too many feeds are open", status=503)
        cookie, is_socket = request.cookies.get(COOKIE), SCOPE_KEY in request.scope
        said = feed(office.desk, may_look=lambda: is_socket or office.sessions.is_open(cookie))
        return StreamingResponse(said, media_type="text/event-stream")

    @routes.get("/approvals/{ticket}")
    async def approval(ticket: str, _: Viewer) -> dict[str, Any]:
        found = tickets.load(office.reader, ticket)
        if found is None:
            raise OperatorError(f"no approval {ticket}", status=404)
        return _shown(office, found)

    @routes.post("/approvals/{ticket}/decisions")
    async def decide(ticket: str, body: DecisionBody, request: Request, operator: Decider) -> dict[str, Any]:
        if body.decision == "edit":
            raise OperatorError("arguments cannot be edited in this version: deny, and ask the agent anew", status=422)
        versions = {_version(request.headers.get("if-match")), body.version} - {None}
        if len(versions) > 1:
            raise OperatorError("If-Match and version name different versions", status=409)
        decided = await office.desk.decide(
            ticket,
            approve=body.decision == "approve",
            by=operator.by,
            call_digest=body.call_digest,
            version=next(iter(versions), None),
            scope=Scope(body.scope),
            comment=body.comment,
        )
        return _shown(office, decided)

    @routes.get("/audit")
    async def audit(
        _: Viewer,
        *,
        task: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        kind: str | None = None,
        verdict: str | None = None,
        action: str | None = None,
        ticket: str | None = None,
        since: str | None = None,
        until: str | None = None,
        after: Annotated[int, Query(ge=-1, le=MAX_INTEGER)] = -1,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        wanted = Filter(
            task=task,
            agent=agent,
            tool=tool,
            kind=kind,
            verdict=verdict,
            action=action,
            ticket=ticket,
            since=instant(since),
            until=instant(until),
        )
        found = events.query(office.reader, wanted, after=after, limit=limit)
        return _page("events", [event_document(one) for one in found], limit, key="index")

    @routes.get("/audit/{which}")
    async def event(which: str, _: Viewer) -> dict[str, Any]:
        found = events.show(office.reader, which)
        if found is None:
            raise OperatorError(f"no event {which}", status=404)
        return event_document(found)

    @routes.get("/audit/why/{which}")
    async def why(which: str, _: Viewer) -> dict[str, Any]:
        found = events.why(office.reader, which)
        if not found:
            raise OperatorError(f"nothing is recorded of {which}", status=404)
        return {"events": [event_document(one) for one in found]}

    @routes.post("/console-links", status_code=201)
    async def console_link(operator: Decider) -> dict[str, Any]:
        del operator
        return {"url": f"{office.console_url}/console/enter#{office.sessions.link()}"}

    return routes


def model_words(office: Office, ticket: Ticket) -> str | None:
    """What the model said of an approval, if there is one that did."""
    return office.model.summary(ticket.id) if office.model else None


def _shown(office: Office, ticket: Ticket) -> dict[str, Any]:
    return ticket_document(ticket, model_words(office, ticket))


def _page(name: str, rows: Sequence[Mapping[str, Any]], limit: int, *, key: str = "id") -> dict[str, Any]:
    """One page, and what `after` must be for the next; null where this is the last."""
    return {name: rows, "next": rows[-1][key] if len(rows) == limit else None}


def _version(if_match: str | None) -> int | None:
    """The version of an `If-Match` field; any is fine where there is none or it is `*`.

    Raises:
        OperatorError: it cannot be one of ours, so it does not match (409).
    """
    if if_match is None or if_match.strip() == "*":
        return None
    quoted = if_match.strip()
    digits = quoted[1:-1] if quoted[:1] == quoted[-1:] == '"' else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise OperatorError(f'If-Match is the version that was seen, such as "1", not {quoted[:40]}')
    return int(digits)
