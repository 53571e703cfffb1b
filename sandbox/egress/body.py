"""A request's body from one stream to another, and not a byte more: what follows it may be another request."""

import re
from typing import Final

from sandbox.egress.refusal import Cut, Refusal
from sandbox.egress.streams import Peeked, Stream

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LINE_BYTES: Final = 1024
_TRAILER_LINES: Final = 64


async def send_body(source: Peeked, sink: Stream, length: int | None) -> None:
    """Raises:
    Refusal: the chunks are malformed.
    Cut: it ended early, or one of the streams broke.
    """
    if length is not None:
        await _send(source, sink, length)
        return
    while size := await _size(source):
        await sink.write(b"%x\r\n" % size)
        await _send(source, sink, size)
        if await _line(source):
            raise Refusal("a chunk longer than it says", status=400)
        await sink.write(b"\r\n")
    for _ in range(_TRAILER_LINES):  # trailers are for this hop: dropped
        if not await _line(source):
            await sink.write(b"0\r\n\r\n")
            return
    raise Refusal("too many trailers", status=431)


async def _send(source: Peeked, sink: Stream, length: int) -> None:
    while length:
        if not source.held and not await source.more():
            raise Cut("its body ended early")
        part = source.taken(length)
        length -= len(part)
        await sink.write(part)


async def _size(source: Peeked) -> int:
    found = _SIZE.fullmatch(await _line(source))
    if found is None:
        raise Refusal("a malformed chunk", status=400)
    return int(found[1], 16)


async def _line(source: Peeked) -> bytes:
    """Up to CR LF, without it."""
    while (place := source.held.find(b"\n")) < 0:
        if len(source.held) > _LINE_BYTES or not await source.more():
            raise Refusal("a malformed chunk", status=400)
    line = source.taken(place + 1)
    if len(line) > _LINE_BYTES or not line.endswith(b"\r\n"):
        raise Refusal("a malformed chunk", status=400)
    return line[:-2]
