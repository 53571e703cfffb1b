"""A load client light enough not to eat the core: prebuilt HTTP requests over keep-alive sockets, one per caller."""

import asyncio
import json
import sys
import time
from collections.abc import Callable

import uvloop

MODERN = "2026-07-28"


def request(host: str, token: str, tool: str, arguments: dict[str, str], number: int) -> bytes:
    """One modern `tools/call` as bytes."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
    }
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": meta},
        }
    ).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {MODERN}\r\n"
        f"Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\nContent-Length: {len(body)}\r\n"
    )
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return head.encode() + b"\r\n" + body


async def caller(host: str, port: int, calls: int, make: Callable[[int], bytes], times: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for number in range(calls):
        started = time.perf_counter()
        writer.write(make(number))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - started)
        if b"receipt-000001" not in body:
            raise SystemExit(f"unexpected answer: {head!r} {body[:500]!r}")
    writer.close()


async def main(port: int, callers: int, calls: int, tool: str, token: str) -> None:
    times: list[float] = []
    host, text = f"127.0.0.1:{port}", "t" * 420

    def requests(place: int) -> Callable[[int], bytes]:
        given = {"to": f"d{place}", "text": text} if tool.endswith("write") else {"text": text}
        return lambda number: request(host, token, tool, given, number)

    started = time.perf_counter()
    await asyncio.gather(
        *(caller("127.0.0.1", port, calls // callers, requests(place), times) for place in range(callers))
    )
    print(json.dumps({"wall_s": time.perf_counter() - started, "times_s": times}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.stdin.readline().strip()))
