"""`pratique stdio`: a client's JSON-RPC lines carried to the gateway's socket, and its answers back. Both eras.

It decides nothing and keeps nothing. A message is sent once: where the gateway goes away under a call, the client is
told that its outcome is unknown, and no call is ever sent again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from gateway.edges.agent_socket import AgentSocket, Broken, NotSent
from gateway.ports import Answer
from gateway.wire import answers, jsonrpc, modern
from gateway.wire.asks import cancelled_id
from gateway.wire.http import find_id
from gateway.wire.jsonrpc import ErrorCode, Failure, Malformed, Message, Notification, Request, RequestId, Response
from gateway.wire.mirrors import encode_value
from policies.verdict import Code

FAREWELL_S = 1.0
"""How long ending a session may take once the client has closed its end."""
_ENDS = 1024


@dataclass(frozen=True, slots=True)
class _Flight:
    task: asyncio.Task[None]
    is_modern: bool


class Forwarder:
    """One client on stdin and stdout."""

    def __init__(self, socket: AgentSocket, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._socket = socket
        self._write = write
        self._session: dict[str, str] = {}
        """Header fields of a legacy session, once there is one."""
        self._flights: dict[RequestId, _Flight] = {}

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Until the client closes its end; then what is in flight is let go, and the session ended."""
        async with asyncio.TaskGroup() as group:
            async for line in lines:
                await self._take(line.strip(), group)
            for flight in self._flights.values():
                flight.task.cancel()
        if self._session:
            with suppress(NotSent, Broken, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._post("DELETE", b"", self._session)

    async def _take(self, line: bytes, group: asyncio.TaskGroup) -> None:
        if not line:
            return
        match jsonrpc.parse(line):
            case Malformed(code, text, request_id):
                if request_id is None:
                    request_id = find_id(line[:_ENDS], line[-_ENDS:])
                await self._say(Failure(request_id, code, text))
            case Request(request_id) if request_id in self._flights:
                await self._say(Failure(request_id, ErrorCode.INVALID_REQUEST, "a request with this id is in flight"))
            case Request() as request:
                version = modern.envelope_version(request)
                task = group.create_task(self._carry(request, line, version))
                self._flights[request.id] = _Flight(task, version is not None)
                task.add_done_callback(lambda _: self._flights.pop(request.id))
            case Notification() as notification:
                target = cancelled_id(notification) if notification.method == "notifications/cancelled" else None
                flight = None if target is None else self._flights.get(target)
                if flight is not None and flight.is_modern:
                    flight.task.cancel()  # closing its stream is the cancellation, and it is owed no answer
                else:
                    group.create_task(self._notify(line))
            case _:
                return  # the gateway asks nothing of a client, so nothing is answered

    async def _carry(self, request: Request, line: bytes, version: str | None) -> None:
        try:
            last = await self._ask(request, line, self._session if version is None else _mirrored(request, version))
        except NotSent as error:
            await self._lost(request, Code.UNAVAILABLE, str(error), is_modern=version is not None)
        except Broken as error:
            await self._lost(request, Code.UNKNOWN_OUTCOME, str(error), is_modern=version is not None)
        else:
            await self._say(last)

    async def _ask(self, request: Request, line: bytes, fields: dict[str, str]) -> Message:
        """The answer; progress on the way to it is passed on.

        Raises:
            NotSent, Broken: as the socket does.
        """
        buffer = b""
        async with aclosing(self._socket.send("POST", line, fields)) as arriving:
            async for answer in arriving:
                buffer += answer.take()
                if answer.is_stream:
                    *events, buffer = buffer.split(b"\n\n")
                    for event in events:
                        message = _read(event.partition(b"data: ")[2])
                        if isinstance(message, Response | Failure):
                            return message
                        if isinstance(message, Notification):
                            await self._say(message)
                elif answer.is_whole:
                    return self._final(request, buffer, answer.fields)
        raise Broken("the gateway's stream ended without an answer")

    def _final(self, request: Request, body: bytes, fields: dict[str, str]) -> Message:
        match _read(body):
            case Response(_, result) as response:
                if request.method == "initialize" and "mcp-session-id" in fields:
                    self._session = {
                        "mcp-session-id": fields["mcp-session-id"],
                        "mcp-protocol-version": str(result.get("protocolVersion")),
                    }
                return response
            case Failure(_, code, text, data):
                return Failure(request.id, code, text, data)
            case _:
                raise Broken("what answers is not a gateway")

    async def _notify(self, line: bytes) -> None:
        with suppress(NotSent, Broken):  # nobody waits for an answer to it
            await self._post("POST", line, self._session)

    async def _post(self, verb: str, body: bytes, fields: dict[str, str]) -> None:
        async with aclosing(self._socket.send(verb, body, fields)) as arriving:
            async for answer in arriving:
                answer.take()

    async def _lost(self, request: Request, code: Code, reason: str, *, is_modern: bool) -> None:
        """What a client hears when the gateway is not there, or no longer."""
        if request.method != "tools/call":
            await self._say(Failure(request.id, ErrorCode.SERVER_ERROR, reason))
            return
        encode = answers.modern if is_modern else answers.legacy
        await self._write(encode(request.id, Answer(action="", code=code)) + b"\n")

    async def _say(self, message: Message) -> None:
        await self._write(jsonrpc.encode(message) + b"\n")


def _mirrored(request: Request, version: str) -> dict[str, str]:
    """The headers that HTTP wants of a modern request, from its body."""
    fields = {"mcp-protocol-version": encode_value(version), "mcp-method": encode_value(request.method)}
    name = modern.name_of(request)
    return fields if name is None else {**fields, "mcp-name": encode_value(name)}


def _read(data: bytes) -> Message | Malformed:
    return jsonrpc.parse(data, exact_integers=False)
