"""Bytes both ways: what a connection is to the proxy, whatever carries it, and how two of them are joined."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final, Protocol

from sandbox.egress.refusal import Cut, Refusal

LINGER_S: Final = 10.0
"""How long one direction may go on after the other has ended."""


class Stream(Protocol):
    """A connection's two directions."""

    async def read(self) -> bytes:
        """Some bytes, as soon as there are any; empty at the end.

        Raises:
            Cut: it broke.
        """
        ...

    async def write(self, data: bytes) -> None:
        """All of it, at the pace at which it is taken.

        Raises:
            Cut: it broke.
        """
        ...

    async def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            Cut: it broke.
        """
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Peeked:
    """A stream whose first bytes may be looked at and put back."""

    under: Stream
    held: bytearray = field(default_factory=bytearray)

    async def read(self) -> bytes:
        if self.held:
            data = bytes(self.held)
            self.held.clear()
            return data
        return await self.under.read()

    async def write(self, data: bytes) -> None:
        await self.under.write(data)

    async def end(self) -> None:
        await self.under.end()

    async def more(self) -> bool:
        """Read on, behind what is held; False at the end."""
        data = await self.under.read()
        self.held += data
        return bool(data)

    def taken(self, count: int) -> bytes:
        """Take the first bytes of what is held."""
        data = bytes(self.held[:count])
        del self.held[:count]
        return data


async def pump(source: Stream, sink: Stream) -> None:
    """Everything from one to the other, its end included."""
    while data := await source.read():
        await sink.write(data)
    await sink.end()


async def joined(
    outward: Coroutine[None, None, None], inward: Coroutine[None, None, None], *, linger_s: float = LINGER_S
) -> None:
    """Both directions until both are done. Once nothing more can come in, what still goes out is given `linger_s`.

    Raises:
        Cut, Refusal: one of them could not go on.
    """
    wrong: Cut | Refusal | None = None
    try:
        async with asyncio.TaskGroup() as both:
            going = both.create_task(outward)
            await inward
            if not going.done():
                asyncio.get_running_loop().call_later(linger_s, going.cancel)
    except* (Cut, Refusal) as group:
        first = group.exceptions[0]
        assert isinstance(first, (Cut, Refusal))
        wrong = first
    if wrong is not None:
        raise wrong
