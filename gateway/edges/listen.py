"""Where the gateway listens: loopback for agents and browsers, a socket for the forwarder, a socket for operators.

uvicorn's HTTP/1.1 protocol on listeners of our own, so that one process holds all three and nothing else takes signals.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.edges.asgi import ASGIApp, Receive, Scope, Send
from gateway.edges.operators import SCOPE_KEY
from gateway.errors import ConfigError

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: uvicorn's own 5 s would make every slow agent reconnect."""
DRAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One open address."""

    server: asyncio.Server
    state: ServerState

    async def drain(self) -> None:
        """Stop accepting, and let what is being answered finish for a moment."""
        self.server.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=DRAIN_S)

    async def close(self) -> None:
        """End what is still not answered."""
        self.server.close()
        for task in list(self.state.tasks):
            task.cancel()


def bind_tcp(host: str, port: int) -> socket.socket:
    """A bound loopback socket; `port` 0 takes a free one.

    Raises:
        ConfigError: the address is taken or cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio leaves Nagle on: 40 ms a call
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} is taken: stop what listens there, or set `listen` under [gateway] in pratique.toml"
            ) from error
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return bound


async def listen_tcp(app: ASGIApp, bound: socket.socket) -> Listener:
    """Listen on a bound socket."""
    return await _listen(app, lambda make: asyncio.get_running_loop().create_server(make, sock=bound))


async def listen_unix(app: ASGIApp, path: Path, *, peer_uid: int | None = None) -> Listener:
    """Listen on a socket file of mode 0600; with `peer_uid`, a peer of any other user is cut off unheard.

    Raises:
        ConfigError: the path cannot be used.
    """
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - at start, before anything waits
    before = os.umask(0o177)
    try:
        return await _listen(
            app,
            lambda make: asyncio.get_running_loop().create_unix_server(make, os.fspath(path)),
            peer_uid=peer_uid,
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)


def as_operator(app: ASGIApp, by: str) -> ASGIApp:
    """`app` as whoever holds this socket sees it: the operator named `by`."""

    async def operated(scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY] = by
        await app(scope, receive, send)

    return operated


async def _listen(
    app: ASGIApp,
    create: Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Server]],
    *,
    peer_uid: int | None = None,
) -> Listener:
    config = Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    config.load()
    state = ServerState()

    def make() -> asyncio.Protocol:
        if peer_uid is None:
            return HttpToolsProtocol(config=config, server_state=state, app_state={})
        return _PeerChecked(peer_uid, config=config, server_state=state, app_state={})

    return Listener(server=await create(make), state=state)


class _PeerChecked(HttpToolsProtocol):
    """Speaks only with one user's processes, by what the kernel says of the peer."""

    def __init__(self, peer_uid: int, **given: Any) -> None:
        super().__init__(**given)
        self._peer_uid = peer_uid

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        _, uid, _ = struct.unpack(
            "3i",
            transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")),
        )
        super().connection_made(transport)
        if uid != self._peer_uid:
            transport.abort()
