"""Clients and servers that nobody here wrote: where `tests/setup.sh` puts them, and one voice for all the clients."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from mcp import Client, MCPError

from support.live import connected

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".cache" / "node"
_OWN_NODE = PACKAGES / "node_modules" / "node" / "bin" / "node"
NODE = str(_OWN_NODE) if _OWN_NODE.exists() else shutil.which("node") or "node"
_SCRIPT = ROOT / "tests" / "integration" / "strangers" / "ts" / "calls.mjs"

CLIENTS = {
    "python-legacy": "legacy",
    "python-modern": "2026-07-28",
    "typescript-1": "1",
    "typescript-2-legacy": "2-legacy",
    "typescript-2-modern": "2-modern",
}
"""The official clients, and what each is told to speak."""
MODERN = frozenset({"python-modern", "typescript-2-modern"})

JSON: TypeAlias = dict[str, Any]
Progress: TypeAlias = tuple[float, float | None, str | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One call."""

    tool: str
    arguments: JSON = field(default_factory=dict)
    cancel_at: float | None = None
    """Cancel it once its progress gets there."""


@dataclass(slots=True)
class Said:
    """What a client was told, as JSON; a call that was answered with an error has its words in place of a result."""

    tools: list[JSON]
    results: list[JSON | str] = field(default_factory=list)
    progress: list[list[Progress]] = field(default_factory=list)


def package(name: str) -> str:
    """The script of an npm server."""
    return str(PACKAGES / "node_modules" / "@modelcontextprotocol" / name / "dist" / "index.js")


async def converse(client: str, url: str, token: str, steps: Sequence[Step]) -> Said:
    """List the tools, then make every call in turn, over one connection."""
    if client.startswith("typescript"):
        return await _typescript(CLIENTS[client], url, token, steps)
    async with connected(url, token, CLIENTS[client]) as python:
        return await speak(python, steps)


async def speak(client: Client, steps: Sequence[Step]) -> Said:
    """The same with a Python client that is connected already."""
    said = Said([_json(tool) for tool in (await client.list_tools()).tools])
    for step in steps:
        watch = _Watch(step.cancel_at)
        calling = asyncio.create_task(client.call_tool(step.tool, step.arguments, progress_callback=watch))
        if step.cancel_at is not None:
            await watch.reached.wait()
            calling.cancel()
        try:
            said.results.append(_json(await calling))
        except MCPError as error:
            said.results.append(str(error))
        except asyncio.CancelledError:
            said.results.append("cancelled")
        said.progress.append(watch.shown)
    return said


@dataclass(slots=True)
class _Watch:
    """A progress callback that remembers."""

    until: float | None
    shown: list[Progress] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.shown.append((progress, total, message))
        if self.until is not None and progress >= self.until:
            self.reached.set()


async def _typescript(mode: str, url: str, token: str, steps: Sequence[Step]) -> Said:
    calls = [
        {"name": step.tool, "arguments": step.arguments}
        | ({} if step.cancel_at is None else {"cancelAt": step.cancel_at})
        for step in steps
    ]
    asked = {"packages": str(PACKAGES), "url": url, "token": token, "mode": mode, "calls": calls}
    process = await asyncio.create_subprocess_exec(NODE, str(_SCRIPT), stdin=-1, stdout=-1, stderr=-1)
    out, err = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, err.decode()
    answered = json.loads(out)
    return Said(
        tools=answered["tools"],
        results=[one.get("result") or one["error"]["message"] for one in answered["results"]],
        progress=[
            [(each["progress"], each.get("total"), each.get("message")) for each in shown]
            for shown in answered["progress"]
        ],
    )


def _json(model: Any) -> JSON:
    document: JSON = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    return document


def texts(result: JSON | str) -> str:
    """Everything a result says in text; the error's words where it was one."""
    if isinstance(result, str):
        return result
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


def code(result: JSON | str) -> str:
    """The code of a refusal of ours; empty where the tool itself answered."""
    assert not isinstance(result, str), result
    return str(result.get("_meta", {}).get("dev.pratique/decision", {}).get("code", ""))
