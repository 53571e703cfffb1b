"""The console's routes: each gathers what the API would answer, and renders one template."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from audit.query import Filter, Record, latest, query
from gateway.desk import reading
from gateway.desk.endorse import endorsed_by
from gateway.desk.money import spelled
from gateway.edges.console.flow import arguments_of, flow_of
from gateway.edges.console.inert import inert, text_of, whole
from gateway.edges.console.kvdrawing import drawing_of
from gateway.edges.documents import MODEL_WORDS, MOST_MODEL_WORDS
from gateway.edges.gate import Gate
from gateway.edges.kvmap import counts, kv_map, prefix_rate
from gateway.edges.model import NO_MODEL
from gateway.edges.operators import COOKIE, SESSION_S
from gateway.edges.problems import problem, status_of
from gateway.edges.rest import Office, model_words, operator_of
from gateway.errors import OperatorError
from gateway.ports import ModelDesk
from gateway.stores import tickets, values
from gateway.stores.tickets import Ticket, TicketState
from policies.jsonvalue import JSONObject
from policies.trace import Past

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_STATIC = {"console.css": "text/css", "console.js": "text/javascript"}
HOUR_S = 3600.0
MOST_EVENTS = 500
"""Events of a task on its page; `pratique audit query` has the rest."""
MOST_ROWS = 200
"""Rows of each table on the model's page; `pratique llm top --json` has all."""
_RUNNING = ("prefill", "decode")
"""States of a sequence that is not waiting for its turn."""


def clock(seconds: float) -> str:
    """UTC, to the second, as a person reads it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def budget(name: str, left: int) -> str:
    """What is left of one budget."""
    currency = name.removeprefix("spend:")
    return f"{left} {name}" if currency == name else spelled(currency, left)


_templates = Environment(
    loader=PackageLoader("gateway.edges.console"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"inert": inert, "whole": whole, "text": text_of, "clock": clock, "budget": budget}
_templates.globals |= {"reading": reading, "arguments_of": arguments_of, "most": MOST_ROWS}
_templates.globals |= {"model_words": MODEL_WORDS, "most_model_words": MOST_MODEL_WORDS}


class EnterBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    link: str = Field(max_length=200)


def console_app(office: Office) -> Gate:
    """The console under `/console`, behind its gate."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(_routes(office))
    for kind in (OperatorError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _refused)
    return Gate(app, is_agent_token=office.is_agent_token, policy=POLICY)


def _routes(office: Office) -> APIRouter:
    routes = APIRouter(prefix="/console")

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise OperatorError("no such file", status=404)
        body = files("gateway.edges.console").joinpath("static", name).read_bytes()
        return Response(body, media_type=_STATIC[name])

    @routes.get("/enter")
    async def enter_page() -> Response:
        return await _page("enter.html")

    @routes.post("/enter")
    async def enter(body: EnterBody) -> Response:
        opened = office.sessions.enter(body.link)
        if opened is None:
            raise OperatorError("this link was used or is too old: `pratique console` prints a fresh one", status=403)
        cookie, key = opened
        answer = JSONResponse({"key": key})
        answer.set_cookie(COOKIE, cookie, max_age=int(SESSION_S), httponly=True, samesite="strict", path="/")
        return answer

    @routes.get("")
    async def home(request: Request) -> Response:
        operator_of(office, request)
        now, reader = office.desk.clock(), office.reader
        lately = Counter(one.verdict for one in latest(reader, Filter(kind="approval.decided", since=now - HOUR_S)))
        return await _page(
            "home.html",
            pending=tickets.listed(reader, state=TicketState.PENDING, limit=200),
            refusals=[one for one in latest(reader, Filter(verdict="deny"), limit=20) if one.server],
            decided=latest(reader, Filter(kind="approval.decided"), limit=8),
            lately=lately,
            tasks=list(reversed(office.control.tasks(limit=500)))[:50],
            servers=office.servers.listed(),
            workspaces=await office.workspaces.listed(),
            now=now,
        )

    @routes.get("/")
    async def slash() -> Response:
        return RedirectResponse("/console", status_code=308)

    @routes.get("/approvals/{name}")
    async def approval(name: str, request: Request) -> Response:
        operator_of(office, request)
        ticket = tickets.load(office.reader, name)
        if ticket is None:
            raise OperatorError(f"no approval {name}", status=404)
        before = tickets.endorsements(office.reader, ticket.task)
        return await _page(
            "approval.html",
            ticket=ticket,
            card=ticket.card,
            left_s=max(0.0, ticket.expires - office.desk.clock()),
            endorses=reading.endorsed(endorsed_by(ticket, before), ticket.card),
            found=_found_in_bodies(ticket),
            words=model_words(office, ticket),
            is_model_asked=office.model is not None,
        )

    @routes.get("/tasks/{name}")
    async def task(name: str, request: Request) -> Response:
        operator_of(office, request)
        shown = office.control.task(name)
        events = query(office.reader, Filter(task=name), limit=MOST_EVENTS)
        return await asyncio.to_thread(_task_page, shown, events, _read(office, name))

    @routes.get("/workspaces/{name}")
    async def workspace(name: str, request: Request) -> Response:
        operator_of(office, request)
        try:
            found = await office.workspaces.shown(name)
        except OperatorError as error:
            if error.status != 404:
                raise
            found = None  # dropped, or nothing was ever written: no reason to alarm anybody
        return await _page("workspace.html", task=name, found=found)

    @routes.get("/llm")
    async def llm(request: Request) -> Response:
        operator_of(office, request)
        if office.model is None:
            return await _page("llm.html", is_configured=False, seen=None, said=NO_MODEL)
        seen, said = await _looked(office.model)
        kept = await office.model.generations()
        return await asyncio.to_thread(_model_page, office.model.models(), kept, seen, said)

    @routes.get("/servers/{name}")
    async def server(name: str, request: Request) -> Response:
        operator_of(office, request)
        return await _page("server.html", server=office.servers.shown(name), changes=office.servers.diff(name))

    return routes


async def _page(name: str, *, status: int = 200, **values: Any) -> Response:
    """One rendered template; off the event loop, since a card may hold a hundred kilobytes to be made inert."""
    return await asyncio.to_thread(_rendered, name, status, values)


def _rendered(name: str, status: int, values: dict[str, Any]) -> Response:
    return HTMLResponse(_templates.get_template(name).render(status=status, **values), status_code=status)


def _task_page(task: dict[str, Any], events: list[Record], results: list[Past]) -> Response:
    flow = flow_of(events, results)
    return _rendered(
        "task.html", 200, {"task": task, "events": events, "flow": flow, "is_cut": len(events) == MOST_EVENTS}
    )


async def _looked(model: ModelDesk) -> tuple[JSONObject | None, str]:
    """What the engine looks like now, or why that cannot be said."""
    try:
        return await model.seen(), ""
    except OperatorError as error:
        return None, str(error)


def _model_page(
    models: list[JSONObject], generations: list[JSONObject], seen: JSONObject | None, said: str
) -> Response:
    values: dict[str, Any] = {
        "is_configured": True,
        "models": models,
        "generations": generations,
        "seen": seen,
        "said": said,
    }
    if seen is not None:
        map, sequences = kv_map(seen), seen["sequences"]
        values |= {
            "map": map,
            "drawing": drawing_of(map),
            "counts": counts(map),
            "rate": prefix_rate(seen),
            "running": [one for one in sequences if one["state"] in _RUNNING],
            "queued": [one for one in sequences if one["state"] not in _RUNNING],
            "most_service": max((one["service"] for one in seen["tenants"]), default=0.0) or 1.0,
        }
    return _rendered("llm.html", 200, values)


def _read(office: Office, task: str) -> list[Past]:
    """What a task's results said, in order."""
    return [
        Past(server=one.server, tool=one.tool, action=one.action, body=one.said)
        for one in values.remembered(office.reader, task)
    ]


def _found_in_bodies(ticket: Ticket) -> dict[str, list[str]]:
    """By argument, what a body holds that nobody supplied, as it is written there."""
    found: dict[str, list[str]] = {}
    for ask in ticket.card["asks"]:
        if ask["detail"].startswith("body: unproven "):
            found.setdefault(ask["path"], []).append(ask["detail"].split(" ", 3)[3])
    return found


async def _refused(request: Request, error: Exception) -> Response:
    """A page for people; a problem for the script."""
    status, detail = status_of(error)
    if request.method != "GET":
        return Response(problem(status, detail), status, media_type="application/problem+json")
    return await _page("refused.html", status=status, message=detail)
