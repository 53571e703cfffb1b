"""`pratique stdio`: what a client launches that speaks MCP to a process; it forwards to the running gateway."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.client import Unreachable
from gateway.cli.show import State
from gateway.edges.agent_socket import AgentSocket, NotSent, check_folder
from gateway.edges.stdio import Forwarder
from gateway.errors import ConfigError
from gateway.settings import NAME, default_state

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message; of a longer one only the start is kept, to say no to it."""
_START = 1024


def stdio(
    token_file: Annotated[Path, typer.Option("--token-file", metavar="FILE", help="The file that holds the token.")],
    server: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this server alone, its tools under their own names.")
    ] = None,
    state: State = None,
) -> None:
    """Carry a client's messages on stdin to the gateway, and its answers to stdout."""
    if server is not None and not NAME.fullmatch(server):
        raise ConfigError(f"--server: {server!r} is not a server's name")
    path = (state or default_state()) / "agent.sock"
    socket = AgentSocket(path=path, token=read_token(token_file), route=f"/mcp/{server}" if server else "/mcp")
    try:
        check_folder(path.parent)
    except NotSent as error:
        raise Unreachable(str(error)) from error
    asyncio.run(_forward(socket))


def read_token(file: Path) -> str:
    """The token in a file; never taken from the command line, which other processes can read.

    Raises:
        ConfigError: there is none.
    """
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file: {file} cannot be read") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"--token-file: {file} does not hold one token; `pratique grant --write FILE` writes one")
    return token


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines, with their newlines; of one over the reader's limit its start alone."""
    start = b""
    while True:
        try:
            line = await reader.readuntil()
        except asyncio.LimitOverrunError as error:
            piece = await reader.readexactly(error.consumed)
            start = start or piece[:_START]
            continue
        except asyncio.IncompleteReadError as error:
            if error.partial:
                yield start or error.partial
            return
        yield start or line
        start = b""


async def _forward(socket: AgentSocket) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    except ValueError as error:
        raise ConfigError("`pratique stdio` speaks over pipes: let an MCP client start it") from error
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write(line: bytes) -> None:
        writer.write(line)
        await writer.drain()

    await Forwarder(socket, write).run(read_lines(reader))
