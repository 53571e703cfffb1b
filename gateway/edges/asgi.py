"""ASGI as the `/mcp` edge uses it: a body bounded in size and time in, one whole reply out."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from gateway.wire.http import Reply, refused, too_large

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S = 30.0
ENDS = 1024
"""Bytes kept of the start and of the end of a body that is too large: its id is in one of them."""
_DRAINED = 4
"""How many times the limit is read to get at the end, before the sender is cut off."""


class ClientGone(Exception):
    """The connection closed before its request was whole."""


async def read_body(receive: Receive, limit: int) -> bytes | Reply:
    """The body, or why it is not taken.

    Raises:
        ClientGone: there is nobody to answer.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _body(receive, limit)
    except TimeoutError:
        return refused(408, "Request Timeout: the body did not come", fields=((b"connection", b"close"),))


async def write(reply: Reply, send: Send) -> None:
    fields = [*reply.fields, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": fields})
    await send({"type": "http.response.body", "body": reply.body})


def is_local(scope: Scope) -> bool:
    """Whether it came over a Unix socket: such a server has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


async def _body(receive: Receive, limit: int) -> bytes | Reply:
    start, end, size = b"", b"", 0
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            start = start or b"".join([*parts, part])[:ENDS]
            end = (end + part)[-ENDS:]
            parts.clear()
        if not message.get("more_body", False):
            return b"".join(parts) if size <= limit else too_large(start, end)
        if size > limit * _DRAINED:
            return too_large(start, b"")
