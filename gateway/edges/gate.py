"""What stands before everything that operators may open: agents are turned away, bodies are bounded, headers are set.

It sits inside each application, so that it holds over `control.sock` as well as over loopback.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from gateway.edges.asgi import ASGIApp, ClientGone, Receive, Scope, Send, read_body, write
from gateway.edges.problems import reply

MAX_BODY = 256 * 1024
"""Bytes of one request of an operator."""

HARDENED: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Gate:
    """An ASGI middleware; `policy` is the content security policy of every answer."""

    def __init__(self, app: ASGIApp, *, is_agent_token: Callable[[str], bool], policy: str) -> None:
        self._app = app
        self._is_agent_token = is_agent_token
        self._headers = {**HARDENED, "content-security-policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def hardened(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message.setdefault("headers", [])).update(self._headers)
            await send(message)

        if self._is_agents(scope):
            await write(reply(403, "an agent's token opens nothing here"), hardened)
            return
        try:
            body = await read_body(receive, MAX_BODY)
        except ClientGone:
            return
        if not isinstance(body, bytes):
            late = body.status == 408
            said = "the body did not come" if late else f"a request's body has at most {MAX_BODY} bytes"
            await write(reply(408 if late else 413, said), hardened)
            return
        await self._app(scope, _replayed(body, receive), hardened)

    def _is_agents(self, scope: Scope) -> bool:
        for value in Headers(scope=scope).getlist("authorization"):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer" and self._is_agent_token(token.strip()):
                return True
        return False


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once, then whatever the connection says: that it closed."""
    parts = [body]

    async def replayed() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": parts.pop(), "more_body": False} if parts else await receive()

    return replayed
