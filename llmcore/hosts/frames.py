"""Messages over a pipe: four bytes of length, big-endian, then a msgpack list of tagged messages.

parent -> child   `HostConfig`, once, alone in its frame; then lists of `ToEngine`
child -> parent   lists of `FromChild`: any number of `Loading`, then `Loaded` or `NotLoaded`; then what the engine says
"""

from collections.abc import Sequence as Many
from typing import BinaryIO, Final, TypeAlias

import msgspec
from msgspec import Struct

from llmcore.hosts.host import Loaded
from llmcore.messages import FromEngine, ToEngine

LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1 << 30
"""Beyond the largest snapshot; a longer frame is a pipe out of step."""


class Loading(Struct, frozen=True, tag=True):
    doing: str
    done: float
    """0 to 1."""


class NotLoaded(Struct, frozen=True, tag=True):
    reason: str


FromChild: TypeAlias = FromEngine | Loading | Loaded | NotLoaded

to_engine: Final = msgspec.msgpack.Decoder(list[ToEngine])
from_child: Final = msgspec.msgpack.Decoder(list[FromChild])


def framed(content: Many[ToEngine] | Many[FromChild] | Struct) -> bytes:
    """
    Raises:
        ValueError: it is longer than a frame may be.
    """
    body = msgspec.msgpack.encode(content)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes is too long: at most {MAX_FRAME_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_frame(pipe: BinaryIO) -> bytes | None:
    """The next frame's content; None: the other side has closed, or died in the middle of one.

    Raises:
        ValueError: the length is none that a frame may have.
    """
    head = pipe.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = checked_length(head)
    body = pipe.read(length)
    return body if len(body) == length else None


def checked_length(head: bytes) -> int:
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes is too long: at most {MAX_FRAME_BYTES}")
    return length
