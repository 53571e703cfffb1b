"""Progress before an answer: a response that turns into an event stream when, and only when, there is some.

What leaves is numbers, finite and rising; a reader that is slow gets the newest and misses those between.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.wire.jsonrpc import Notification, RequestId, encode
from policies.jsonvalue import JSONObject

PING_S = 15.0
"""A silent stream sends a comment so often: proxies close what is idle, and a closed stream cancels."""
_FIELDS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class ProgressStream:
    """The response to one call, from its first progress on."""

    def __init__(self, token: RequestId, send: Callable[[Any], Awaitable[None]]) -> None:
        self._token = token
        self._send = send
        self._newest: tuple[float, float | None] | None = None
        self._shown = -math.inf
        self._last: bytes | None = None
        self._wake = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def progress(self, progress: float, total: float | None) -> None:
        """Implements `ports.Progress`; the first call opens the stream."""
        if not math.isfinite(progress) or progress <= self._shown or self._last is not None:
            return
        self._shown = progress
        self._newest = (progress, total if total is not None and math.isfinite(total) else None)
        self._wake.set()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def finish(self, answer: bytes) -> bool:
        """End the stream with the answer; False where none was opened and the answer is still to be sent."""
        if self._writing is None:
            return False
        self._last = answer
        self._wake.set()
        await self._writing
        return True

    def abandon(self) -> None:
        """Nobody reads any more."""
        if self._writing is not None:
            self._writing.cancel()

    async def _write(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": _FIELDS})
        while self._last is None:
            self._wake.clear()
            await self._put(self._event(), more=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._wake.wait()
        await self._put(self._event() + _framed(self._last), more=False)

    def _event(self) -> bytes:
        """The newest progress, or a comment where there is none."""
        if self._newest is None:
            return b": ping\n\n" if self._last is None else b""
        (progress, total), self._newest = self._newest, None
        params: JSONObject = {"progressToken": self._token, "progress": progress}
        if total is not None:
            params["total"] = total
        return _framed(encode(Notification("notifications/progress", params)))

    async def _put(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _framed(message: bytes) -> bytes:
    return b"event: message\ndata: " + message + b"\n\n"
