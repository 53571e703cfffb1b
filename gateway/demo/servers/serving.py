"""What the demo's servers share: tools over one SQLite file, served on stdio with the official SDK."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema_rs
import mcp_types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

JSONObject: TypeAlias = dict[str, Any]
Body: TypeAlias = Callable[[sqlite3.Connection, JSONObject], JSONObject]


class ToolError(Exception):
    """What a tool tells its caller instead of a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: what it says of itself, and what it does."""

    name: str
    description: str
    arguments: JSONObject
    """The properties of its input schema; all of them are required."""
    result: JSONObject
    """The properties of its output schema."""
    body: Body
    read_only: bool = False


def strict_object(properties: JSONObject) -> JSONObject:
    """The schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(properties: JSONObject) -> JSONObject:
    """The schema of an array of such objects."""
    return {"type": "array", "items": strict_object(properties)}


def open_database(folder: Path, name: str, schema: str) -> sqlite3.Connection:
    """The server's file, made from `schema` when it is new; several processes may open it at once."""
    connection = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        for statement in schema.split(";\n"):
            connection.execute(statement)
    connection.execute("COMMIT")
    return connection


def rows(connection: sqlite3.Connection, query: str, *values: object) -> list[JSONObject]:
    """Every row of a query, by column name."""
    return [dict(row) for row in connection.execute(query, values)]


def run(name: str, schema: str, tools: Sequence[Tool]) -> None:
    """Serve `tools` on stdio until stdin closes; the folder of the database is the one argument."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python3 -P -m gateway.demo.servers.{name} FOLDER")
    connection = open_database(Path(sys.argv[1]), name, schema)
    try:
        asyncio.run(_serve(server_of(name, tools, connection)))
    finally:
        connection.close()


def server_of(name: str, tools: Sequence[Tool], connection: sqlite3.Connection) -> Server[Any]:
    """The SDK's server around the tools."""
    by_name = {tool.name: tool for tool in tools}
    checks = {tool.name: jsonschema_rs.validator_for(strict_object(tool.arguments)) for tool in tools}

    async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in tools])

    async def call_tool(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool, arguments = by_name.get(params.name), params.arguments or {}
        if tool is None:
            return _failure(f"no tool is called {params.name!r}")
        if not checks[tool.name].is_valid(arguments):
            return _failure(f"{tool.name}: arguments do not fit the schema")
        try:
            result = tool.body(connection, arguments)
        except ToolError as error:
            return _failure(str(error))
        text = types.TextContent(text=json.dumps(result, ensure_ascii=False))
        return types.CallToolResult(content=[text], structured_content=result)

    return Server(name, version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def _serve(server: Server[Any]) -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=strict_object(tool.arguments),
        output_schema=strict_object(tool.result),
        annotations=types.ToolAnnotations(read_only_hint=tool.read_only),
    )


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=sentence)], is_error=True)
