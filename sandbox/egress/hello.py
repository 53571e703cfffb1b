"""Whom a TLS client asks for: the server name of its first message (RFC 8446, 4.1.2; RFC 6066, 3).

Strict: what two readers could understand differently has no name here.
"""

from typing import Final

LIMIT_BYTES: Final = 32 << 10
MOST_RECORDS: Final = 100
"""It is looked at anew with each piece that arrives, so pieces of a byte would cost the gateway its time."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D
_LONGEST_RECORD: Final = 1 << 14


class BadHello(Exception):
    """It is no client's first message, or hides whom it asks for."""


class _Short(Exception):
    """Some bytes are missing."""


def server_name(data: bytes) -> str | None:
    """The name that a client asks for; None: more bytes are needed.

    Raises:
        BadHello: there is none, or it cannot be seen.
    """
    try:
        message = _message(_Bytes(data))
    except _Short:
        if len(data) > LIMIT_BYTES:
            raise BadHello("a first message that does not end") from None
        return None
    try:
        return _name(_extensions(message))
    except _Short:
        raise BadHello("a malformed first message of TLS") from None


class _Bytes:
    """Bytes, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.place : self.place + count]
        if len(taken) < count:
            raise _Short
        self.place += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> "_Bytes":
        """What a length of so many bytes stands before."""
        return _Bytes(self.take(self.number(size)))

    @property
    def is_over(self) -> bool:
        return self.place == len(self.data)


def _message(data: _Bytes) -> _Bytes:
    """The first handshake message, put together from its records."""
    whole, records = b"", 0
    while len(whole) < 4 or len(whole) < 4 + int.from_bytes(whole[1:4]):
        if (records := records + 1) > MOST_RECORDS:
            raise BadHello("a first message in too many pieces")
        kind, version = data.number(1), data.number(2)
        length = data.number(2)
        if kind != _HANDSHAKE or version >> 8 != 3 or not 0 < length <= _LONGEST_RECORD:
            raise BadHello("no TLS")
        whole += data.take(length)
        if whole[0] != _CLIENT_HELLO:
            raise BadHello("no TLS")
    return _Bytes(whole[4 : 4 + int.from_bytes(whole[1:4])])


def _extensions(message: _Bytes) -> dict[int, _Bytes]:
    message.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session, cipher suites, compression
        message.vector(size)
    listed, found = message.vector(2), dict[int, _Bytes]()
    while not listed.is_over:
        kind = listed.number(2)
        if kind in found:
            raise BadHello("an extension twice")
        found[kind] = listed.vector(2)
    if not message.is_over:
        raise BadHello("more behind its end")
    return found


def _name(extensions: dict[int, _Bytes]) -> str:
    if _ENCRYPTED_HELLO in extensions:
        raise BadHello("TLS with an encrypted name")
    if _SERVER_NAME not in extensions:
        raise BadHello("TLS that names no server")
    extension = extensions[_SERVER_NAME]
    listed = extension.vector(2)
    kind, name = listed.number(1), listed.vector(2)
    if kind or not listed.is_over or not extension.is_over:
        raise BadHello("TLS with more than one name")
    return name.data.decode("latin-1")
