"""The server behind every target: a stdio MCP server of both eras that is as cheap as Python allows.

Two tools: `write` (a destination and a text) and `look` (a pure read). About 0.6 kB in, 1.3 kB out.
"""

import sys
from typing import Any

import msgspec

_NOTE = "n" * 420
_TOOLS = [
    {
        "name": name,
        "description": "Says back what it was given.",
        "inputSchema": {
            "type": "object",
            "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    }
    for name in ("look", "write")
]
_INFO = {"serverInfo": {"name": "echo", "version": "1"}, "capabilities": {"tools": {}}}
_TTL = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "private"}


def answer(method: str, params: dict[str, Any], era: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            return {"protocolVersion": params["protocolVersion"], **_INFO}
        case "server/discover":
            return {"supportedVersions": ["2026-07-28"], **_INFO, **_TTL}
        case "tools/list":
            return {"tools": _TOOLS, **(_TTL if era else {})}
        case "tools/call":
            said = {"id": "receipt-000001", "text": params["arguments"]["text"][:64], "note": _NOTE}
            text = msgspec.json.encode(said).decode()
            return {"content": [{"type": "text", "text": text}], "structuredContent": said, **era}
        case _:
            return None


def main() -> None:
    decode, encode = msgspec.json.decode, msgspec.json.encode
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        message = decode(line)
        if "id" not in message:
            continue
        params = message.get("params", {})
        modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
        result = answer(message["method"], params, {"resultType": "complete"} if modern else {})
        head = {"jsonrpc": "2.0", "id": message["id"]}
        out.write(
            encode({**head, "result": result} if result else {**head, "error": {"code": -32601, "message": "no"}})
        )
        out.write(b"\n")
        out.flush()


if __name__ == "__main__":
    main()
