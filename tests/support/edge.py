"""A world for the `/mcp` edge: a corridor of a dozen lines, sessions in a dict, a real uvicorn."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from typing_extensions import override

from gateway.edges.asgi import Receive, Scope, Send
from gateway.edges.http import Edge
from gateway.ports import Answer, Progress, Unauthorised
from gateway.stores.sessions import Session
from policies.action import Subject
from policies.jsonvalue import JSONObject

TOOL: JSONObject = {"name": "echo__say", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}


class Rows:
    """Implements `SessionStore`."""

    def __init__(self) -> None:
        self.rows: dict[str, Session] = {}

    async def save(self, session: Session) -> None:
        self.rows[session.id] = session

    async def load(self, session_id: str) -> Session | None:
        return self.rows.get(session_id)

    async def touch(self, session_id: str, now: float) -> None:
        del session_id, now

    async def delete(self, session_id: str) -> None:
        self.rows.pop(session_id, None)


@dataclass
class Echo:
    """Implements `Corridor`: every name is a token, `revoked` holds those that no longer stand."""

    revoked: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    called: list[tuple[str, str, str, JSONObject]] = field(default_factory=list)
    expected: int = 1
    """How many calls until `started`."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def admit(self, credential: str) -> Subject | Unauthorised:
        if credential in self.revoked or not credential.startswith("tok-"):
            return Unauthorised("the token is not one of this gateway's")
        return subject(credential.removeprefix("tok-"))

    def is_live(self, subject: Subject) -> bool:
        return f"tok-{subject.principal}" not in self.revoked

    async def tools(self, subject: Subject, server: str | None) -> list[JSONObject]:
        return [TOOL if server is None else {**TOOL, "name": "say"}]

    async def call(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, progress: Progress | None = None
    ) -> Answer:
        self.called.append((subject.principal, server, tool, arguments))
        for step in range(arguments.get("steps", 0)):
            if progress:
                progress(float(step + 1), None)
            await asyncio.sleep(0)
        if len(self.called) >= self.expected:
            self.started.set()
        if arguments.get("forever"):
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        return Answer(action="act_1", result={"content": [{"type": "text", "text": arguments.get("text", "")}], "x": 1})

    async def refuse_method(self, subject: Subject, method: str, params: JSONObject) -> None:
        self.refused.append(method)


def subject(name: str, *, agent: str = "agt_1", task: str = "task_1", root: str = "tok_1") -> Subject:
    return Subject(principal=name, agent=agent, task=task, holder=agent, root=root, token=root)


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def edge(corridor: Echo, rows: Rows, clock: Callable[[], float] = lambda: 1000.0) -> Edge:
    return Edge(corridor, rows, nowhere, public="http://127.0.0.1:8808", clock=clock)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def served(app: Edge, uds: Path | None = None, port: int = 0) -> AsyncIterator[str]:
    """The application behind a real server; its address."""
    config = uvicorn.Config(app, lifespan="off", log_level="error", http="httptools", timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.socket(socket.AF_UNIX if uds else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(str(uds) if uds else ("127.0.0.1", port))
        listening.listen()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await server.ready.wait()
        try:
            yield "" if uds else f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@dataclass
class Post:
    """One request put to the application directly, its connection held open until `close`."""

    app: Edge
    body: bytes = b""
    path: str = "/mcp"
    verb: str = "POST"
    token: str | None = "tok-alice"
    fields: dict[str, str] = field(default_factory=dict)
    server: tuple[str, int | None] = ("127.0.0.1", 8808)
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> "Post":
        """Until the application is done with it."""
        fields = {
            "host": "localhost",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        if self.token is not None:
            fields["authorization"] = f"Bearer {self.token}"
        fields |= self.fields
        scope = {
            "type": "http",
            "method": self.verb,
            "path": self.path,
            "raw_path": self.path.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "server": self.server,
        }
        bodies = [self.body]

        async def receive() -> MutableMapping[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await self.closed.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def content(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def answer(self) -> Any:
        return json.loads(self.content)


def message(method: str, request_id: str | int | None = 7, **params: Any) -> bytes:
    identified = {} if request_id is None else {"id": request_id}
    return json.dumps({"jsonrpc": "2.0", **identified, "method": method, "params": params}).encode()


def modern(app: Edge, method: str, *, token: str = "tok-alice", path: str = "/mcp", **params: Any) -> Post:
    """A well-formed request of 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    } | params.pop("_meta", {})
    fields = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    if "name" in params:
        fields["mcp-name"] = params["name"]
    return Post(app, message(method, _meta=meta, **params), path=path, token=token, fields=fields)


async def handshake(app: Edge, *, token: str = "tok-alice", path: str = "/mcp") -> str:
    """The id of a new legacy session."""
    post = await Post(app, message("initialize", 0, protocolVersion="2025-11-25"), path=path, token=token)()
    return post.head["mcp-session-id"]


def legacy(
    app: Edge,
    session: str,
    method: str,
    request_id: str | int | None = 7,
    *,
    token: str = "tok-alice",
    path: str = "/mcp",
    **params: Any,
) -> Post:
    fields = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
    return Post(app, message(method, request_id, **params), path=path, token=token, fields=fields)
