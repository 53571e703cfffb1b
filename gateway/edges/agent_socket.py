"""The forwarder's road: HTTP over `agent.sock`, one connection per message, checked before the token is sent.

The socket lies in a folder that only its owner may enter, and whoever listens on it runs under the same user. A
connection is used once: a second request on an idle one could be lost with it, and nobody could say whether it was
read.
"""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httptools

from gateway.errors import PratiqueError

_UCRED = struct.Struct("3i")
"""pid, uid, gid: unix(7), SO_PEERCRED."""
_CHUNK = 64 * 1024


class NotSent(PratiqueError):
    """The gateway was not reached: provably nothing left this process."""


class Broken(PratiqueError):
    """A request was sent, and no whole answer came."""


@dataclass(slots=True)
class Answer:
    """One response, while it arrives. The callbacks are those of `httptools`."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    has_head: bool = False
    _body: bytearray = field(default_factory=bytearray)

    @property
    def is_stream(self) -> bool:
        return self.fields.get("content-type", "").startswith("text/event-stream")

    def take(self) -> bytes:
        """What of the body has come since the last time."""
        taken = bytes(self._body)
        self._body.clear()
        return taken

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSocket:
    """Where the gateway listens for forwarders."""

    path: Path
    token: str = field(repr=False)
    route: str
    uid: int = field(default_factory=os.geteuid)
    """Whose gateway may have the token."""

    async def send(self, verb: str, body: bytes, fields: Mapping[str, str]) -> AsyncGenerator[Answer, None]:
        """Send one request, once. Yields the same answer each time that more of it has come, at last the whole.

        Raises:
            NotSent: nothing left this process.
            Broken: something did, and the gateway went away before its answer was whole.
        """
        reader, writer = await self._open()
        try:
            writer.write(self._request(verb, body, fields))
            async with aclosing(_answer(reader)) as answers:
                await writer.drain()
                async for answer in answers:
                    yield answer
        except OSError as error:
            raise Broken("the gateway went away") from error
        finally:
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        check_folder(self.path.parent)
        try:
            reader, writer = await asyncio.open_unix_connection(self.path, limit=_CHUNK)
        except OSError as error:
            raise NotSent(f"no gateway answers at {self.path}; start it with `pratique serve`") from error
        if _peer_uid(writer.get_extra_info("socket")) != self.uid:
            writer.close()
            raise NotSent(f"{self.path} is held by another user; the token was not sent")
        return reader, writer

    def _request(self, verb: str, body: bytes, fields: Mapping[str, str]) -> bytes:
        lines = [
            f"{verb} {self.route} HTTP/1.1",
            "host: localhost",
            f"authorization: Bearer {self.token}",
            "content-type: application/json",
            "accept: application/json, text/event-stream",
            "connection: close",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def check_folder(folder: Path) -> None:
    """Only its owner may enter, and that is us: else another user could listen there.

    Raises:
        NotSent: it is not so.
    """
    try:
        found = folder.lstat()
    except OSError as error:
        raise NotSent(f"{folder} is not there; start the gateway with `pratique serve`") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise NotSent(f"{folder} must be a folder of your own with mode 0700")


def _peer_uid(connection: socket.socket) -> int:
    """Who listens at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _pid, uid, _gid = _UCRED.unpack(credentials)
    return int(uid)


async def _answer(reader: asyncio.StreamReader) -> AsyncGenerator[Answer, None]:
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.is_whole:
        data = await reader.read(_CHUNK)
        if not data:
            raise Broken("the gateway went away")
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise Broken("what answers is not a gateway") from error
        if answer.has_head:
            answer.status = parser.get_status_code()
            yield answer
