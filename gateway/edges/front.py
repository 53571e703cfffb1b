"""What answers beside `/mcp`: the operators' API, the console, two signs of life; for browsers on this machine alone.

A page of somewhere else that guesses our address is turned away by Host and Origin (DNS rebinding, cross-site requests).
"""

from collections.abc import Callable

from gateway.edges.asgi import ASGIApp, Receive, Scope, Send, write
from gateway.edges.operators import SCOPE_KEY
from gateway.wire.http import Reply

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_SAFE = frozenset({"GET", "HEAD"})


def by_path(api: ASGIApp, console: ASGIApp, *, origin: str, is_ready: Callable[[], bool]) -> ASGIApp:
    """One application of several, by the first step of the path; `origin` is the only one that may send anything."""
    host = origin.partition("//")[2]
    port = host.rpartition(":")[2]
    hosts = {host, f"localhost:{port}"}

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope.pop(SCOPE_KEY, None)
        path, fields = scope["path"], _fields(scope)
        if path in ("/healthz", "/readyz"):
            ready = path == "/healthz" or is_ready()
            await write(Reply(200 if ready else 503, b"ok\n" if ready else b"not ready\n", (_TEXT,)), send)
        elif fields.get(b"host", b"").decode("latin-1") not in hosts:
            await write(Reply(421, b"this address does not serve that host\n", (_TEXT,)), send)
        elif scope["method"] not in _SAFE and not _is_own(fields, hosts):
            await write(Reply(403, b"this request comes from another site\n", (_TEXT,)), send)
        elif path == "/console" or path.startswith("/console/"):
            await console(scope, receive, send)
        elif path.startswith("/api/v1/"):
            await api(scope, receive, send)
        else:
            await not_found(scope, receive, send)

    return route


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The end of every road."""
    del receive
    if scope["type"] == "http":
        await write(Reply(404, b"not found\n", (_TEXT,)), send)


def _fields(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _is_own(fields: dict[bytes, bytes], hosts: set[str]) -> bool:
    """Whether a request that changes something comes from a page of ours, or from no page at all."""
    origin = fields.get(b"origin")
    site = fields.get(b"sec-fetch-site", b"same-origin")
    return site in (b"same-origin", b"none") and (
        origin is None or origin.decode("latin-1").removeprefix("http://") in hosts
    )
