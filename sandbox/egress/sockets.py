"""A socket of the gateway's as a stream: what arrives is handed on as it came, copied no more than once."""

import asyncio
from collections import deque
from typing import Final, cast

from typing_extensions import override

from sandbox.egress.refusal import Broken

MOST_BYTES: Final = 512 << 10
"""What is held of what arrived before the other end has to wait."""


class SocketStream(asyncio.Protocol):
    """A stream over a transport of asyncio's. One task reads it, one writes."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._arrived = deque[bytes]()
        self._held = 0
        self._has_ended = False
        self._is_gone = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def read(self) -> bytes:
        while not self._arrived:
            if self._is_gone:
                raise Broken("the other end broke it off")
            if self._has_ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._arrived.popleft()
        if self._held > MOST_BYTES >= self._held - len(data) and not self._has_ended:
            self._open.resume_reading()
        self._held -= len(data)
        return data

    async def write(self, data: bytes) -> None:
        if self._is_gone:
            raise Broken("the other end broke it off")
        self._open.write(data)
        await self._writable.wait()

    async def end(self) -> None:
        if self._is_gone:
            raise Broken("the other end broke it off")
        self._open.write_eof()

    def close(self) -> None:
        """Both directions, once what was written has left."""
        self._open.close()

    def abort(self) -> None:
        """Both directions, at once."""
        self._open.abort()

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    # ---- what the transport tells ---------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    @override
    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        if self._held <= MOST_BYTES < self._held + len(data):
            self._open.pause_reading()
        self._held += len(data)
        self._readable.set()

    @override
    def eof_received(self) -> bool:
        self._has_ended = True
        self._readable.set()
        return True  # we may go on writing

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._is_gone = self._is_gone or exc is not None or not self._has_ended
        self._readable.set()
        self._writable.set()

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()
