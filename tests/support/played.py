"""A session whose server is the test: what the gateway wrote to it, line by line, and what it says."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Pipe:
    """What the gateway wrote; `is_full`: there is room for nothing more."""

    lines: list[bytes] = field(default_factory=list)
    is_broken: bool = False
    room: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.room.set()

    def write(self, data: bytes, /) -> None:
        if self.is_broken:
            raise RuntimeError("the handler is closed")
        self.lines.append(data)
        self.arrived.set()

    async def drain(self) -> None:
        await self.room.wait()

    def close(self) -> None: ...


class Played:
    def __init__(self) -> None:
        self.stdin = Pipe()
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()
        self.ended = asyncio.Event()

    @property
    def heard(self) -> list[dict[str, Any]]:
        """Everything that was written to it."""
        return [json.loads(line) for line in self.stdin.lines]

    async def hears(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many lines were written to it."""
        async with asyncio.timeout(20):
            while len(self.stdin.lines) < count:
                self.stdin.arrived.clear()
                await self.stdin.arrived.wait()
        return self.heard

    def says(self, *messages: object) -> None:
        for message in messages:
            self.stdout.feed_data((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")

    def answers(self, request_id: object, text: str = "ok") -> None:
        self.says({"jsonrpc": "2.0", "id": request_id, "result": {"text": text}})

    def asks(self, request_id: object, method: str = "sampling/createMessage", **params: object) -> None:
        said = {"messages": [{"role": "user", "content": {"type": "text", "text": "Ahoy?"}}], "maxTokens": 9, **params}
        self.says({"jsonrpc": "2.0", "id": request_id, "method": method, "params": said})

    def notifies(self, method: str, **params: object) -> None:
        self.says({"jsonrpc": "2.0", "method": method, "params": params})

    def wants(self, request_id: object, state: object = "state", **requests: object) -> None:
        """`input_required`, with a sample for each key, unless another request is given."""
        whole = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        self.says({"jsonrpc": "2.0", "id": request_id, "result": whole})

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    def kill(self) -> None:
        self.ended.set()
        self.stdout.feed_eof()
        self.stderr.feed_eof()
