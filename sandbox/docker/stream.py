"""A container's standard streams over one connection: its input as it is, its output unpacked from the engine's frames.

One connection carries one output stream, so that a reader who leaves stderr alone does not hold stdout up. Frames are
unpacked where they arrive, in the protocol: no task, no second buffer, and a full `StreamReader` stops the socket.
"""

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from typing_extensions import override

STREAM_BYTES: Final = 1 << 20
"""What a stream buffers before the program has to wait."""

HEAD_BYTES: Final = 1 << 14
_FRAME: Final = struct.Struct(">BxxxI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An open connection to a container, or to a program beside the one it was made for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: "_Frames"

    async def finish(self, most_s: float) -> None:
        """Take in what is still on its way, though nobody may be reading, and close. Only when the program has ended:
        the little that the engine and the kernel hold is all there is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self.protocol.take_all()
        self.abort()

    def abort(self) -> None:
        self.writer.transport.abort()


async def open_stream(socket: str, head: bytes, kind: int) -> Stream:
    """Connect, ask, and return once the connection carries frames of that kind (1: stdout, 2: stderr).

    Raises:
        OSError: it cannot be had; a ConnectionError says what the engine answered.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=STREAM_BYTES, loop=loop)
    protocol = _Frames(reader, kind, loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, socket)
    try:
        transport.write(head)
        await protocol.opened
    except BaseException:
        transport.abort()
        raise
    return Stream(reader=reader, writer=_Input(transport, protocol, reader, loop), protocol=protocol)


class _Frames(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, kind: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.opened: asyncio.Future[None] = loop.create_future()
        self._kind = kind
        self._head = bytearray()
        """Of the answer, later of a frame, until it is whole."""
        self._is_open = False
        self._rest = 0
        """Bytes of the present frame that are still to come."""
        self._ended = asyncio.Event()
        self._takes_all = False
        self._connection: asyncio.Transport

    async def take_all(self) -> None:
        """No longer stop for a slow reader; return when the engine has closed."""
        self._takes_all = True
        self._connection.resume_reading()
        await self._ended.wait()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connection = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._unpack(memoryview(data))
            return
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if end:
            self._begin(head, rest)
        elif len(self._head) > HEAD_BYTES:
            self._fail("its answer has no end")

    @override
    def eof_received(self) -> bool | None:
        self._fail("it broke off")
        self._ended.set()
        return super().eof_received()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("it broke off")
        self._ended.set()
        super().connection_lost(exc)

    def _begin(self, head: bytes, rest: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].split(None, 2)
        if len(words) < 2 or words[1] not in (b"101", b"200"):
            self._fail((rest or head).decode(errors="replace").strip())
            return
        self._is_open = True
        self._head.clear()
        if not self.opened.done():  # whoever waited may have gone
            self.opened.set_result(None)
        self._unpack(memoryview(rest))

    def _fail(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why))

    def _unpack(self, data: memoryview) -> None:
        while data:
            if self._rest:
                part = data[: self._rest]
                self._rest -= len(part)
                data = data[len(part) :]
                super().data_received(bytes(part))
                if self._takes_all:
                    self._connection.resume_reading()  # the reader may have stopped it
                continue
            missing = _FRAME.size - len(self._head)
            self._head += data[:missing]
            data = data[missing:]
            if len(self._head) == _FRAME.size:
                kind, self._rest = _FRAME.unpack(self._head)
                self._head.clear()
                if kind != self._kind:
                    self._connection.abort()  # not an engine's frames: nothing after this can be believed
                    return


class _Input(asyncio.StreamWriter):
    """A container's stdin: closing it leaves the way back open, as closing a pipe does."""

    _is_closed = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closed:  # a closed pipe loses what is written to it, too
            super().write(data)

    @override
    def write_eof(self) -> None:
        self.close()

    @override
    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if not self.transport.is_closing():
                super().write_eof()

    @override
    def is_closing(self) -> bool:
        return self._is_closed or super().is_closing()

    @override
    async def wait_closed(self) -> None:
        """Nothing to wait for: what was written goes out before the end does."""
