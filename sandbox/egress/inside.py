"""Run inside a sandbox: listens on its loopback and carries each connection out over one stream, as frames.

    python -I -S -c SOURCE INCOMING OUTGOING              stay until the stream ends
    python -I -S -c SOURCE INCOMING OUTGOING PROGRAM ...  become PROGRAM, and leave a child that stays

INCOMING and OUTGOING are descriptors or paths of devices; where they are the same, it is opened once. It decides
nothing: whoever breaks in here gains what he had, a stream to a proxy that believes nobody. `mux.py` is the other end.

A frame is `HEADER` (kind, connection, length) and that many bytes. Each side may send as many bytes of a connection as
the other gave it credit for, a window to begin with, so that one that nobody reads holds up no other.
"""

import os
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

PORT: Final = 3128
HEADER: Final = struct.Struct("!BII")
AMOUNT: Final = struct.Struct("!I")
OPEN, DATA, END, RESET, CREDIT = range(1, 6)
PAYLOAD: Final = 256 << 10
"""Of the longest frame."""
OUTWARD: Final = 256 << 10
"""The window for what a program says: held by the gateway while it cannot be passed on."""
INWARD: Final = 1 << 20
"""The window for what it is told: held here, in the sandbox's own memory."""
CONNECTIONS: Final = 64
"""At once; whoever comes later waits to be accepted."""

HIGH: Final = 256 << 10
"""Bytes waiting to go out, above which no connection is read."""


class Connection:
    """One client of the sandbox's."""

    def __init__(self, number: int, client: socket.socket) -> None:
        self.number = number
        self.client = client
        self.waiting = bytearray()
        """From outside, for the client."""
        self.credit = OUTWARD
        """What may still be sent out."""
        self.owed = 0
        """What the client has taken and no credit was given for yet."""
        self.client_ended = False
        self.outside_ended = False
        self.events = 0


class Forwarder:
    """All connections of a sandbox, on one thread: none of them is waited for."""

    def __init__(self, listener: socket.socket, incoming: int, outgoing: int) -> None:
        self.listener = listener
        self.incoming = incoming
        self.outgoing = outgoing
        self.buffer = bytearray(PAYLOAD)
        self.header = bytearray()
        """What there is of the next one."""
        self.frame = (0, 0, 0)
        """Kind, connection and what is missing of the one that is arriving."""
        self.leaving = bytearray()
        self.connections: dict[int, Connection] = {}
        self.opened = 0
        self.selector = selectors.DefaultSelector()
        self.watched: dict[int, int] = {}

    def run(self) -> None:
        """Until the stream ends or breaks."""
        for descriptor in (self.incoming, self.outgoing):
            os.set_blocking(descriptor, False)
        self.listener.setblocking(False)
        while True:
            self._watch_all()
            for key, events in self.selector.select():
                if key.fd == self.incoming:
                    if not self._receive():
                        return
                elif key.fd == self.outgoing:
                    self._send()
                elif key.fd == self.listener.fileno():
                    self._accept()
                elif (connection := self.connections.get(key.data)) is not None:
                    self._serve(connection, events)
            if self.leaving:
                self._send()

    def _watch_all(self) -> None:
        self._watch(self.incoming, selectors.EVENT_READ)
        self._watch(self.outgoing, selectors.EVENT_WRITE if self.leaving else 0)
        self._watch(self.listener.fileno(), selectors.EVENT_READ if len(self.connections) < CONNECTIONS else 0)
        is_full = len(self.leaving) > HIGH
        for connection in self.connections.values():
            reads = not connection.client_ended and connection.credit > 0 and not is_full
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if connection.waiting else 0)
            self._watch(connection.client.fileno(), events, connection.number)

    def _watch(self, descriptor: int, events: int, number: int = 0) -> None:
        before = self.watched.get(descriptor, 0)
        if events == before:
            return
        if not events:
            self.selector.unregister(descriptor)
        elif before:
            self.selector.modify(descriptor, events, number)
        else:
            self.selector.register(descriptor, events, number)
        self.watched[descriptor] = events

    def _accept(self) -> None:
        with suppress(OSError):
            client, _ = self.listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
            self.connections[self.opened] = Connection(self.opened, client)
            self._say(OPEN, self.opened)

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ and connection.number in self.connections:
                self._take(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._say(RESET, connection.number)
            self._forget(connection)

    def _take(self, connection: Connection) -> None:
        """What the client says."""
        data = connection.client.recv(min(PAYLOAD, connection.credit))
        if data:
            connection.credit -= len(data)
            self._say(DATA, connection.number, data)
        else:
            connection.client_ended = True
            self._say(END, connection.number)
            self._forget_if_over(connection)

    def _flush(self, connection: Connection) -> None:
        """What is waiting for the client."""
        while connection.waiting:
            with memoryview(connection.waiting) as view, view[:PAYLOAD] as part:
                taken = connection.client.send(part)
            del connection.waiting[:taken]
            self._taken(connection, taken)
        if connection.outside_ended:
            connection.client.shutdown(socket.SHUT_WR)
            self._forget_if_over(connection)

    def _taken(self, connection: Connection, count: int) -> None:
        """The client has so much more; in time, so much more may be sent to it."""
        connection.owed += count
        if connection.owed >= INWARD // 4:
            self._say(CREDIT, connection.number, AMOUNT.pack(connection.owed))
            connection.owed = 0

    def _receive(self) -> bool:
        """Frames from outside; False at their end."""
        try:
            count = os.readv(self.incoming, [self.buffer])
        except BlockingIOError:
            return True
        except OSError:
            return False
        with memoryview(self.buffer) as view:
            place = 0
            while place < count:
                place += self._arrive(view[place:count])
        return count > 0

    def _arrive(self, data: memoryview) -> int:
        """The next piece: of a header, or of what a frame carries, which is not waited for as a whole."""
        kind, number, missing = self.frame
        if not kind:
            piece = data[: HEADER.size - len(self.header)]
            self.header += piece
            if len(self.header) == HEADER.size:
                kind, number, missing = HEADER.unpack(self.header)
                self.header.clear()
        else:
            piece = data[:missing]
            missing -= len(piece)
            if kind == CREDIT:
                self.header += piece
            elif (connection := self.connections.get(number)) is not None:
                self._hand_over(connection, piece)
        if kind and not missing:
            if (connection := self.connections.get(number)) is not None:
                self._finish(connection, kind)
            self.header.clear()
            kind = 0
        self.frame = (kind, number, missing)
        return len(piece)

    def _hand_over(self, connection: Connection, piece: memoryview) -> None:
        """To the client at once if it takes it, else it waits."""
        if not connection.waiting:
            try:
                taken = connection.client.send(piece)
            except BlockingIOError:
                taken = 0
            except OSError:
                self._say(RESET, connection.number)
                self._forget(connection)
                return
            self._taken(connection, taken)
            piece = piece[taken:]
        connection.waiting += piece

    def _finish(self, connection: Connection, kind: int) -> None:
        """A frame is whole; what data carries is with the client already, or waits for it."""
        if kind == CREDIT:
            connection.credit += AMOUNT.unpack(self.header)[0]
        elif kind == END:
            connection.outside_ended = True
            self._serve(connection, selectors.EVENT_WRITE)
        elif kind == RESET and connection.outside_ended:  # nothing more is read; what it was sent, it may still take
            connection.client_ended = True
            self._forget_if_over(connection)
        elif kind == RESET:  # the client must see that it was cut: a plain end could pass for the whole of an answer
            connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._forget(connection)

    def _say(self, kind: int, number: int, payload: bytes = b"") -> None:
        self.leaving += HEADER.pack(kind, number, len(payload))
        self.leaving += payload

    def _send(self) -> None:
        with suppress(BlockingIOError), memoryview(self.leaving) as view:
            sent = os.write(self.outgoing, view)
            view.release()
            del self.leaving[:sent]

    def _forget_if_over(self, connection: Connection) -> None:
        if connection.client_ended and connection.outside_ended and not connection.waiting:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._watch(connection.client.fileno(), 0)
        del self.watched[connection.client.fileno()]
        del self.connections[connection.number]
        connection.client.close()


def main() -> None:
    incoming, outgoing, *program = sys.argv[1:]
    reads = _opened(incoming, os.O_RDWR if incoming == outgoing else os.O_RDONLY)
    writes = os.dup(reads) if incoming == outgoing else _opened(outgoing, os.O_WRONLY)
    listener = socket.create_server(("127.0.0.1", PORT), backlog=CONNECTIONS)
    os.write(writes, b"ready\n")
    if program:
        _leave_a_child(program, listener, reads, writes)
    with suppress(BrokenPipeError, ConnectionResetError):
        Forwarder(listener, reads, writes).run()


def _opened(place: str, flags: int) -> int:
    return int(place) if place.isdecimal() else os.open(place, flags | os.O_CLOEXEC | os.O_NOCTTY)


def _leave_a_child(program: list[str], listener: socket.socket, reads: int, writes: int) -> None:
    """Return in a grandchild, which holds none of the program's streams and is nobody's to wait for."""
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        return
    os.waitpid(child, 0)
    listener.close()
    for descriptor in {reads, writes}:
        os.close(descriptor)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; a program expects them as they are by default
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main()
