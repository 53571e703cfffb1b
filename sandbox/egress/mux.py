"""The gateway's end of a forwarder's stream: many connections over one, none of which can hold up another.

The other end may be anybody who broke into the forwarder. So a frame that no forwarder would send ends the stream, what
is held for a connection is bounded by its window, and nothing here waits for the other side but what it sends to it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sandbox.egress.inside import AMOUNT, CONNECTIONS, CREDIT, DATA, END, HEADER, INWARD, OPEN, OUTWARD, PAYLOAD, RESET
from sandbox.egress.refusal import Cut

logger = logging.getLogger(__name__)

READ_BYTES: Final = 256 << 10


class BadFrame(Exception):
    """The other end is no forwarder."""


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """One connection that a program in the sandbox made. Whoever carries it is cancelled when the program cuts it."""

    number: int
    _mux: "Mux"
    _arrived: bytearray = field(default_factory=bytearray)
    _owed: int = 0
    """Bytes taken that no credit was given for yet."""
    _credit: int = INWARD
    """Bytes that may be sent."""
    _has_ended: bool = False
    _was_ended: bool = False
    _readable: asyncio.Event = field(default_factory=asyncio.Event)
    _writable: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """Whether both sides have said all they had to say."""
        return self._has_ended and self._was_ended

    async def read(self) -> bytes:
        """What has arrived, as soon as there is any; empty at the end.

        Raises:
            Cut: the sandbox has ended.
        """
        while not self._arrived and not self._has_ended:
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        self._owed += len(data)
        if self._owed >= OUTWARD // 4 and not self._has_ended:
            owed, self._owed = self._owed, 0
            await self._mux.send(CREDIT, self.number, AMOUNT.pack(owed))
        return data

    async def write(self, data: bytes) -> None:
        """Send all of it, as fast as it is taken.

        Raises:
            Cut: the sandbox has ended.
        """
        view, place = memoryview(data), 0
        while place < len(data):
            while self._credit == 0:
                self._writable.clear()
                await self._writable.wait()
            part = view[place : place + min(PAYLOAD, self._credit)]
            self._credit -= len(part)
            place += len(part)
            await self._mux.send(DATA, self.number, part)

    async def end(self) -> None:
        """Say that nothing more will be sent; it may still be read.

        Raises:
            Cut: the sandbox has ended.
        """
        self._was_ended = True
        await self._mux.send(END, self.number)

    def arrive(self, kind: int, payload: bytes) -> None:
        """A frame of this connection.

        Raises:
            BadFrame: no forwarder would send it.
        """
        if kind == DATA and payload and not self._has_ended:
            self._arrived += payload
            if len(self._arrived) + self._owed > OUTWARD:
                raise BadFrame("more than its window")
            self._readable.set()
        elif kind == CREDIT and len(payload) == AMOUNT.size:
            self._credit += AMOUNT.unpack(payload)[0]
            if self._credit > INWARD:
                raise BadFrame("more credit than was used")
            self._writable.set()
        elif kind == END and not payload and not self._has_ended:
            self._has_ended = True
            self._readable.set()
        else:
            raise BadFrame("out of place")


Handler: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Carries one connection; when it returns, the connection is closed."""


@dataclass(slots=True, kw_only=True, eq=False)
class Mux:
    """One stream and its connections."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handler: Handler
    _open: dict[int, Connection] = field(default_factory=dict)
    _carrying: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """Those that the program has not cut. A task is cancelled once at most: what it does then must not be cut short."""
    _last: int = 0

    async def serve(self) -> None:
        """Until the stream ends, by either side; then every connection is cut. The stream is closed.

        Raises:
            ExceptionGroup: a handler failed.
        """
        try:
            async with asyncio.TaskGroup() as handlers:
                with suppress(ConnectionError, Cut):
                    await self._read_all(handlers)
                for number in list(self._carrying):
                    self._cut(number)
        finally:
            self.writer.close()

    async def send(self, kind: int, number: int, payload: bytes | memoryview = b"") -> None:
        """A frame to the other end, at the pace at which it reads.

        Raises:
            Cut: the sandbox has ended.
        """
        try:
            self.writer.writelines((HEADER.pack(kind, number, len(payload)), payload))
            await self.writer.drain()
        except (ConnectionError, RuntimeError) as gone:  # RuntimeError: uvloop's word for a closed transport
            raise Cut("its sandbox has ended") from gone

    async def _read_all(self, handlers: asyncio.TaskGroup) -> None:
        buffer = bytearray()
        while data := await self.reader.read(READ_BYTES):
            buffer += data
            try:
                await self._take(buffer, handlers)
            except BadFrame as bad:
                logger.warning("a sandbox broke its forwarder's protocol", extra={"frame": str(bad)})
                return

    async def _take(self, buffer: bytearray, handlers: asyncio.TaskGroup) -> None:
        """Every frame that has arrived whole."""
        place = 0
        while len(buffer) - place >= HEADER.size:
            kind, number, length = HEADER.unpack_from(buffer, place)
            if length > PAYLOAD:
                raise BadFrame("too long")
            after = place + HEADER.size + length
            if len(buffer) < after:
                break
            if kind == OPEN:
                await self._accept(handlers, number, length)
            elif not 0 < number <= self._last:
                raise BadFrame("of a connection that never was")
            elif kind == RESET:
                self._cut(number)
            elif (connection := self._open.get(number)) is not None:
                connection.arrive(kind, bytes(buffer[place + HEADER.size : after]))
            place = after
        del buffer[:place]

    async def _accept(self, handlers: asyncio.TaskGroup, number: int, length: int) -> None:
        if length or number <= self._last:
            raise BadFrame("not a new connection")
        self._last = number
        if len(self._open) >= CONNECTIONS:  # one may be ending here that has ended there
            await self.send(RESET, number)
            return
        connection = self._open[number] = Connection(number=number, _mux=self)
        task = self._carrying[number] = handlers.create_task(self._handle(connection), name="egress connection")
        task.add_done_callback(lambda _: self._forget(number))

    async def _handle(self, connection: Connection) -> None:
        with suppress(Cut):
            await self.handler(connection)
            if not connection.is_over:
                await self.send(RESET, connection.number)

    def _cut(self, number: int) -> None:
        if (task := self._carrying.pop(number, None)) is not None:
            task.cancel()

    def _forget(self, number: int) -> None:
        del self._open[number]
        self._carrying.pop(number, None)
