"""An echo server made with the SDK's low-level server, in the era that its argument names."""

import sys
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server

TOOLS = [
    types.Tool(
        name="echo",
        description="Say it again.",
        input_schema={
            "type": "object",
            "properties": {"text": {"type": "string"}, "times": {"type": "integer", "default": 1}},
            "required": ["text"],
        },
    ),
    types.Tool(name="slow", description="Progress, then wait for ever.", input_schema={"type": "object"}),
    types.Tool(name="broken", description="Raises.", input_schema={"type": "object"}),
]


async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """Two pages."""
    if params is None or params.cursor is None:
        return types.ListToolsResult(tools=TOOLS[:1], next_cursor="more")
    return types.ListToolsResult(tools=TOOLS[1:])


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = params.arguments or {}
    if params.name == "slow":
        for step in (1, 2):
            await ctx.session.report_progress(step, 2)
        await anyio.sleep_forever()
    if params.name == "broken":
        raise RuntimeError("boom")
    text = " ".join([arguments["text"]] * arguments.get("times", 1))
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        _meta={"vendor/x": [1], "dev.pratique/decision": {"code": "approved"}},
    )


async def main() -> None:
    server: Server[Any] = Server(
        "echo", version="1", instructions="Be kind.", on_list_tools=list_tools, on_call_tool=call_tool
    )
    async with stdio_server() as (read, write):
        if sys.argv[1] == "legacy":
            options = server.create_initialization_options()
            await serve_loop(server, read, write, lifespan_state={}, init_options=options)
        else:
            await server.run(read, write, server.create_initialization_options())


anyio.run(main)
