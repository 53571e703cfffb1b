"""Says where it runs: the kernel it sees, and a number that no other process of it has. Raw JSON-RPC, no imports."""

import json
import secrets
import sys

TOOLS = [
    {
        "name": "look",
        "description": "Where this runs.",
        "inputSchema": {"type": "object", "properties": {"about": {"type": "string"}}, "additionalProperties": False},
    }
]
MINE = secrets.token_hex(8)


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "whereami", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        with open("/proc/version") as file:
            said = {"kernel": file.read(), "process": MINE}
        return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params", {}))
        head = {"jsonrpc": "2.0", "id": message["id"]}
        reply = {**head, "result": result} if result else {**head, "error": {"code": -32601, "message": "no"}}
        print(json.dumps(reply), flush=True)
