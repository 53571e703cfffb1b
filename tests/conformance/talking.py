"""A client that is nothing but lines of JSON: what a server answers, it hands back as it came."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

JSON: TypeAlias = dict[str, Any]

LINE_BYTES = 1 << 22


class Streams(Protocol):
    """A session, or a process that nothing confines."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a server answered."""

    initialized: JSON
    tools: list[JSON]
    results: list[JSON]

    @property
    def names(self) -> list[str]:
        return sorted(tool["name"] for tool in self.tools)


async def converse(streams: Streams, calls: Sequence[tuple[str, JSON]]) -> Said:
    """The handshake, the tools, then every call in turn."""
    client = {"name": "conformance", "version": "1"}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    initialized = await _ask(streams, 0, "initialize", hello)
    await _send(streams, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    tools = (await _ask(streams, 1, "tools/list", {}))["tools"]
    results = [
        await _ask(streams, number, "tools/call", {"name": name, "arguments": arguments})
        for number, (name, arguments) in enumerate(calls, 2)
    ]
    return Said(initialized, tools, results)


async def _ask(streams: Streams, number: int, method: str, params: JSON) -> JSON:
    await _send(streams, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    assert streams.stdout is not None
    while line := await streams.stdout.readline():
        message: JSON = json.loads(line)
        if message.get("id") == number and "method" not in message:
            result: JSON = message["result"]
            return result
    raise AssertionError(f"the server ended instead of answering {method}")


async def _send(streams: Streams, message: JSON) -> None:
    assert streams.stdin is not None
    streams.stdin.write(json.dumps(message).encode() + b"\n")
    await streams.stdin.drain()
