"""What answers beside `/mcp`: the model, the operators' API, the console, two signs of life.

The API and the console are for browsers on this machine alone; the model (`/v1`) has agents and a door of its own.

A page of somewhere else is turned away: one that has our address under another name by Host (DNS rebinding), one that
sends from its own address by Origin and Sec-Fetch-Site. Another port of this machine is somewhere else too, though its
pages are `same-site` and get our cookie. A link that a person follows may open a page of the console, and nothing more.
"""

from collections.abc import Callable, Mapping

from gateway.edges.asgi import ASGIApp, Receive, Scope, Send, write
from gateway.edges.operators import SCOPE_KEY
from gateway.edges.problems import reply
from gateway.wire.http import Reply

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_SAFE = frozenset({"GET", "HEAD"})
_ONCE = frozenset({b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
"""Fields that are judged here: sent twice, there is no telling which one a browser meant."""


def by_path(api: ASGIApp, console: ASGIApp, *, origin: str, is_ready: Callable[[], bool], model: ASGIApp) -> ASGIApp:
    """One application of several, by the first step of the path; `origin` is the only one that may send anything."""
    host = origin.partition("//")[2]
    hosts = {host, f"localhost:{host.rpartition(':')[2]}"}

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope.pop(SCOPE_KEY, None)
        path = scope["path"]
        is_console = path == "/console" or path.startswith("/console/")
        if path in ("/healthz", "/readyz"):
            ready = path == "/healthz" or is_ready()
            await write(Reply(200 if ready else 503, b"ok\n" if ready else b"not ready\n", (_TEXT,)), send)
        elif path == "/v1" or path.startswith("/v1/"):
            await model(scope, receive, send)
        elif refusal := _refusal(scope, hosts, is_console):
            await write(refusal, send)
        elif is_console:
            await console(scope, receive, send)
        elif path == "/api/v1" or path.startswith("/api/v1/"):
            await api(scope, receive, send)
        else:
            await not_found(scope, receive, send)

    return route


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The end of every road."""
    del receive
    if scope["type"] == "http":
        await write(reply(404, "nothing is here; the console is at /console"), send)


def _refusal(scope: Scope, hosts: set[str], is_console: bool) -> Reply | None:
    """Why a request is not taken, if it comes from where it must not."""
    fields: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _ONCE and name in fields:
            return reply(400, f"{name.decode()} was sent twice")
        fields[name] = value.decode("latin-1")
    if fields.get(b"host", "") not in hosts:
        return reply(421, "this address does not serve that host")
    if _is_own(fields, hosts) or (is_console and scope["method"] in _SAFE and _is_followed_link(fields)):
        return None
    return reply(403, "this request comes from another site")


def _is_own(fields: Mapping[bytes, str], hosts: set[str]) -> bool:
    """Whether it comes from a page of ours, or from no page at all."""
    origin = fields.get(b"origin")
    return fields.get(b"sec-fetch-site", "none") in ("same-origin", "none") and (
        origin is None or origin in {f"http://{host}" for host in hosts}
    )


def _is_followed_link(fields: Mapping[bytes, str]) -> bool:
    """Whether a person went there in a window of their own: not a frame, not a script, not a form."""
    return (
        fields.get(b"sec-fetch-mode") == "navigate"
        and fields.get(b"sec-fetch-dest") == "document"
        and b"origin" not in fields
    )
