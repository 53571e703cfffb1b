"""The console's routes: each renders one template from what the API would answer."""

from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, select_autoescape
from pydantic import BaseModel

from audit.query import Filter, latest, query
from gateway.edges.console.flow import flow_of
from gateway.edges.console.inert import inert
from gateway.edges.operators import COOKIE, SESSION_S
from gateway.edges.rest import Office, operator_of, ticket_document
from gateway.errors import OperatorError
from gateway.stores import tickets
from gateway.stores.tickets import TicketState

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_STATIC = {"console.css": "text/css", "console.js": "text/javascript"}


def clock(seconds: float) -> str:
    """RFC 3339, UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_templates = Environment(
    loader=PackageLoader("gateway.edges.console"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_templates.filters["inert"] = inert
_templates.filters["clock"] = clock


class EnterBody(BaseModel):
    link: str


def console_app(office: Office) -> FastAPI:
    """The console as an ASGI application under `/console`."""
    app = FastAPI(openapi_url=None)
    app.include_router(_routes(office))

    async def refused(_request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, OperatorError) else 500
        return _page("refused.html", status=status, message=str(error))

    app.add_exception_handler(OperatorError, refused)
    return app


def _routes(office: Office) -> APIRouter:
    routes = APIRouter(prefix="/console")

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise OperatorError("no such file", status=404)
        body = files("gateway.edges.console").joinpath("static", name).read_bytes()
        return _guarded(Response(body, media_type=_STATIC[name]))

    @routes.get("/enter")
    async def enter_page() -> Response:
        return _page("enter.html")

    @routes.post("/enter")
    async def enter(body: EnterBody) -> Response:
        opened = office.sessions.enter(body.link)
        if opened is None:
            raise OperatorError("this link was used or is too old: `pratique console` prints a fresh one", status=403)
        cookie, key = opened
        answer = JSONResponse({"key": key})
        answer.set_cookie(COOKIE, cookie, max_age=int(SESSION_S), httponly=True, samesite="strict", path="/")
        return _guarded(answer)

    @routes.get("")
    async def home(request: Request) -> Response:
        operator_of(office, request)
        refused = latest(office.reader, Filter(verdict="deny"), limit=20)
        return _page(
            "home.html",
            pending=[ticket_document(t) for t in tickets.listed(office.reader, state=TicketState.PENDING)],
            refusals=refused,
            tasks=list(reversed(office.control.tasks(limit=500)))[:50],
            servers=office.servers.listed(),
        )

    @routes.get("/")
    async def slash() -> Response:
        return RedirectResponse("/console", status_code=308)

    @routes.get("/approvals/{ticket}")
    async def approval(ticket: str, request: Request) -> Response:
        operator_of(office, request)
        found = tickets.load(office.reader, ticket)
        if found is None:
            raise OperatorError(f"no approval {ticket}", status=404)
        return _page("approval.html", ticket=ticket_document(found), card=found.card)

    @routes.get("/tasks/{task}")
    async def task(task: str, request: Request) -> Response:
        operator_of(office, request)
        shown = office.control.task(task)
        events = query(office.reader, Filter(task=task), limit=500)
        return _page("task.html", task=shown, events=events, flow=flow_of(events))

    return routes


def _page(name: str, *, status: int = 200, **values: Any) -> Response:
    return _guarded(HTMLResponse(_templates.get_template(name).render(**values), status_code=status))


def _guarded(response: Response) -> Response:
    response.headers["content-security-policy"] = CSP
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "no-referrer"
    response.headers["cache-control"] = "no-store"
    return response
