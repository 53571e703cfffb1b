"""The Docker engine's API over its Unix socket: questions with an answer, and streams that stay open.

HTTP/1.0 for the questions: the answer ends with the connection, so there is nothing to frame. Every question has a
deadline, for an engine that hangs must not hang the gateway. See https://docs.docker.com/engine/api/v1.41/.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from sandbox.docker.mends import mend_for
from sandbox.docker.stream import Stream, open_stream
from sandbox.errors import SandboxError

VERSION: Final = "v1.41"
"""Docker 20.10's: older than any engine that is still maintained, and spoken by all of them."""

CALL_S: Final = 15.0
HEAD_BYTES: Final = 1 << 16
ANSWER_BYTES: Final = 16 << 20
DEFAULT_SOCKET: Final = "/var/run/docker.sock"


class Refused(SandboxError):
    """The engine understood, and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("docker", message, mend_for(message))
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine."""

    socket: str

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | None = None,
        timeout_s: float = CALL_S,
    ) -> Any:
        """The answer to one question; None where it is empty.

        Raises:
            Refused: the engine said no.
            SandboxError: there is no engine, or it does not answer in time, or not as an engine does.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await (await self.ask(method, path, body, query=query)).read()
        except TimeoutError:
            raise _silent(timeout_s) from None

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | None = None,
    ) -> "Answer":
        """Ask, and return when the answer begins; for those that take long. Set a deadline around it.

        Args:
            body: a JSON value, or bytes that are sent as they come.

        Raises:
            Refused, SandboxError: as `call`.
        """
        stated = path + (f"?{urlencode(query, doseq=True)}" if query else "")
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket, limit=HEAD_BYTES)
        except OSError as absent:
            raise unreachable(self.socket, absent) from absent
        answer = Answer(reader=reader, writer=writer)
        try:
            await answer.begin(method, stated, body)
        except BaseException:
            answer.close()
            raise
        return answer

    async def attach(self, path: str, kind: int, body: object = None, *, query: dict[str, Any] | None = None) -> Stream:
        """A stream that stays open: one of a container's outputs (1 or 2), and its input.

        Raises:
            Refused, SandboxError: as `call`.
        """
        stated = path + (f"?{urlencode(query)}" if query else "")
        content = packed(body)
        asking = head("POST", stated, "application/json", len(content), upgrade=True) + content
        try:
            async with asyncio.timeout(CALL_S):
                return await open_stream(self.socket, asking, kind)
        except TimeoutError:
            raise _silent(CALL_S) from None
        except ConnectionError as broken:
            raise SandboxError("docker", f"no stream: {broken}", mend_for(str(broken))) from broken
        except OSError as absent:
            raise unreachable(self.socket, absent) from absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A body that is sent as it comes."""

    size: int
    parts: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the engine is saying."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def begin(self, method: str, path: str, body: object) -> None:
        """Ask, and read until the answer's body."""
        try:
            if isinstance(body, Upload):
                self.writer.write(head(method, path, "application/x-tar", body.size))
                async for part in body.parts:
                    self.writer.write(part)
                    await self.writer.drain()
            else:
                content = packed(body)
                self.writer.write(head(method, path, "application/json", len(content)) + content)
            began = await self.reader.readuntil(b"\r\n\r\n")
            status = int(began.split(None, 2)[1])
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as broken:
            raise _nonsense(broken) from broken
        if status >= 400:
            raise Refused(status, told(await self._all()))

    async def read(self) -> Any:
        """The rest of it; several JSON values, one a line, are a list."""
        try:
            said = await self._all()
            values = [json.loads(line) for line in said.split(b"\r\n") if line.strip()] if said.strip() else []
        except (OSError, ValueError) as broken:
            raise _nonsense(broken) from broken
        finally:
            self.close()
        return values if len(values) > 1 else next(iter(values), None)

    def close(self) -> None:
        self.writer.transport.abort()

    async def _all(self) -> bytes:
        said = bytearray()
        while part := await self.reader.read(HEAD_BYTES):
            said += part
            if len(said) > ANSWER_BYTES:
                raise ValueError("an answer without an end")
        return bytes(said)


def head(method: str, path: str, kind: str, size: int, *, upgrade: bool = False) -> bytes:
    """The head of a request."""
    lines = [f"{method} /{VERSION}{path} HTTP/{'1.1' if upgrade else '1.0'}", "Host: docker"]
    lines += [f"Content-Type: {kind}", f"Content-Length: {size}"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else []
    return "\r\n".join([*lines, "", ""]).encode()


def packed(body: object) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def told(body: bytes) -> str:
    """What the engine gives as its reason."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace").strip() or "no reason given"


def find_socket() -> str:
    """Where the engine listens.

    Raises:
        SandboxError: DOCKER_HOST names something else than a Unix socket.
    """
    host = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT_SOCKET}")
    if not host.startswith("unix:///"):
        mend = "Set DOCKER_HOST to a local engine's unix:///path, or unset it."
        raise SandboxError("docker", f"DOCKER_HOST is {host!r}: sandboxes run on this machine's engine only", mend)
    return host.removeprefix("unix://")


def unreachable(socket: str, error: OSError) -> SandboxError:
    """The error for a socket that cannot be spoken to."""
    if isinstance(error, PermissionError):
        mend = "Add the gateway's user to the group that owns the socket (usually `docker`), and log in again."
        return SandboxError("docker", f"no permission to use {socket}", mend)
    mend = "Start Docker (systemctl start docker), or set DOCKER_HOST to its unix:///path."
    return SandboxError("docker", f"no engine at {socket}: {error.strerror or error}", mend)


def _silent(timeout_s: float) -> SandboxError:
    return SandboxError("docker", f"no answer from the engine in {timeout_s:.0f} seconds", mend_for("timeout"))


def _nonsense(error: Exception) -> SandboxError:
    what = f"the engine broke off, or its answer makes no sense ({error})"
    return SandboxError("docker", what, "See the engine's log (journalctl -u docker).")
