"""A scribe: it does to a folder what it is told, well or ill. The hostile hand in the tests of workspaces.

    python -P scribe.py FOLDER

Raw JSON-RPC with nothing to import, so that it starts quickly. It writes nothing before it is called.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
TEXT = {"type": "string"}


def schema(*names: str) -> dict[str, Any]:
    properties = dict.fromkeys(names, TEXT)
    return {"type": "object", "properties": properties, "required": list(names), "additionalProperties": False}


TOOLS = {
    "write": schema("path", "text"),
    "link": schema("path", "text"),
    "remove": schema("path"),
    "read": schema("path"),
}


def act(tool: str, path: str, text: str) -> dict[str, Any]:
    target = FOLDER / path if FOLDER.is_dir() else FOLDER
    match tool:
        case "write":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        case "link":
            target.symlink_to(text)
        case "remove":
            os.unlink(target)
        case _:
            return {"said": target.read_text()}
    return {"said": "done"}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            info = {"name": "scribe", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": rule} for name, rule in TOOLS.items()]}
        case _:
            arguments = params.get("arguments", {})
            try:
                body = act(params["name"], arguments["path"], arguments.get("text", ""))
            except OSError as error:
                return {"content": [{"type": "text", "text": str(error)}], "isError": True}
            return {"content": [], "structuredContent": body}


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] in ("initialize", "tools/list", "tools/call"):
        reply = {"result": answer(message["method"], message.get("params", {}))}
    else:
        reply = {"error": {"code": -32601, "message": "Method not found"}}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **reply}) + "\n")
    sys.stdout.flush()
