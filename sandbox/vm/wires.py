"""The sockets between the gateway and a machine: the monitor's, and one for each of the guest's ports.

Pairs that nobody else can reach: QEMU inherits one end of each. A guest's port has no half-close, so each direction of
the program's streams is a port of its own.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, cast

from typing_extensions import override

from sandbox.vm.machine import PORTS

MONITOR: Final = "monitor"

STREAM_BYTES: Final = 1 << 20
"""What a stream buffers before the program has to wait."""


class Outward(asyncio.StreamWriter):
    """Closing it ends what the guest reads, and leaves the socket to QEMU, which closes it when it has read all of it:
    QEMU drops what it has not yet read of a socket that is gone."""

    _ended = False

    @override
    def close(self) -> None:
        if not self.is_closing():
            self._ended = True
            self.transport.write_eof()

    @override
    def is_closing(self) -> bool:
        return self._ended or super().is_closing()


class Wire(asyncio.StreamReaderProtocol):
    """One socket as two streams, which says how much has come: a guest tells how much it sent."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=STREAM_BYTES)
        super().__init__(self.reader)
        self._came = 0
        self._ended = False
        self._news = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it
        self.writer = Outward(self.transport, self, self.reader, asyncio.get_running_loop())

    @override
    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        super().data_received(data)
        self._news.set()

    @override
    def eof_received(self) -> bool:
        super().eof_received()
        self._end()
        return False  # the machine is gone: nothing can be written any more

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None)  # a machine that is gone is an end of file
        self._end()

    async def reached(self, count: int) -> None:
        """Wait until so many bytes have come, or no more will."""
        while self._came < count and not self._ended:
            self._news.clear()
            await self._news.wait()

    def _end(self) -> None:
        self._ended = True
        self._news.set()


class HeldWire(Wire):
    """One whose reader sees no end before `finish`: something may have to be added to what came."""

    @override
    def eof_received(self) -> bool:
        self._end()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def finish(self, last_words: bytes = b"") -> None:
        """Once nothing more comes."""
        self.reader.feed_data(last_words)
        super().connection_lost(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """The gateway's ends, and while the machine is being started the machine's."""

    ends: Mapping[str, Wire]
    monitor_socket: socket.socket
    """The monitor's once more, to send descriptors by."""
    stderr: HeldWire
    """One of the ends."""
    machines: Mapping[str, socket.socket]
    _closing: ExitStack = field(default_factory=ExitStack)

    def __getitem__(self, name: str) -> Wire:
        return self.ends[name]

    @property
    def descriptors(self) -> Mapping[str, int]:
        """The machine's ends, until they are handed over."""
        return {name: end.fileno() for name, end in self.machines.items()}

    def hand_over(self) -> None:
        """The machine has its ends: when it goes, they close."""
        for end in self.machines.values():
            end.close()

    def close(self, last_words: bytes = b"") -> None:
        """Once the machine is gone, or was never there. The last words end its standard error."""
        self.hand_over()
        self.monitor_socket.close()
        for wire in self.ends.values():
            wire.transport.close()
        self.stderr.finish(last_words)


async def lay() -> Wires:
    """New wires; whoever lays them closes them."""
    loop = asyncio.get_running_loop()
    with ExitStack() as unless_laid:
        machines: dict[str, socket.socket] = {}
        ends: dict[str, Wire] = {}
        for name in (MONITOR, *PORTS):
            ours, machines[name] = socket.socketpair()
            unless_laid.callback(machines[name].close)
            if name == MONITOR:
                monitor = ours.dup()
                unless_laid.callback(monitor.close)
            unless_laid.callback(ours.close)
            ours.setblocking(False)
            kind = HeldWire if name == "stderr" else Wire
            _, ends[name] = await loop.create_unix_connection(kind, sock=ours)
            unless_laid.callback(ends[name].transport.close)
        unless_laid.pop_all()
    stderr = ends["stderr"]
    assert isinstance(stderr, HeldWire)
    return Wires(ends=ends, stderr=stderr, monitor_socket=monitor, machines=machines)
