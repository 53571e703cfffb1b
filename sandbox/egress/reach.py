"""How the proxy looks names up and connects; both can be put in its place, for tests."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeAlias

from sandbox.egress.sockets import SocketStream
from sandbox.egress.streams import Stream

RESOLVE_S: Final = 10.0
CONNECT_S: Final = 10.0

_LOOKUPS: Final = ThreadPoolExecutor(max_workers=8, thread_name_prefix="egress lookup")
"""Apart from the loop's own: a name server that never answers must not hold up the gateway's other threads."""


class Reached(Stream, Protocol):
    """A connection to somewhere."""

    def close(self) -> None:
        """Both directions, once what was written has left."""
        ...

    def abort(self) -> None:
        """Both directions, at once."""
        ...


Resolve: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""A name's addresses, best first. Raises OSError, TimeoutError."""
Connect: TypeAlias = Callable[[str, int], Awaitable[Reached]]
"""A connection to an address and port. Raises OSError, TimeoutError."""


async def resolve(host: str) -> list[str]:
    """As this machine does, by its own resolver and hosts file."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_S):
        found = await loop.run_in_executor(_LOOKUPS, _look_up, host)
    return list(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))


async def connect(address: str, port: int) -> SocketStream:
    """TCP. `address` is no name: nothing is looked up again."""
    async with asyncio.timeout(CONNECT_S):
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        _, stream = await asyncio.get_running_loop().create_connection(SocketStream, address, port, flags=flags)
    return stream


def _look_up(host: str) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    return [*socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)]
