"""The baseline: a proxy made of the official SDK on both hops, as good as it gets, with no policy at all.

Typed, plain JSON answers, `get_tool_input_schema` (without it every call lists all tools first), uvloop and httptools.
"""

import sys
from typing import Any

import mcp_types as types
import uvicorn
import uvloop
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.lowlevel import Server


async def serve(port: int, command: list[str]) -> None:
    async with Client(stdio_client(StdioServerParameters(command=command[0], args=command[1:]))) as upstream:
        tools = (await upstream.list_tools()).tools
        schemas = {tool.name: tool.input_schema for tool in tools}

        async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
            return types.ListToolsResult(tools=tools)

        async def call_tool(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            return await upstream.call_tool(params.name, params.arguments)

        server = Server("proxy", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=schemas.get)
        app = server.streamable_http_app(json_response=True)
        await uvicorn.Server(
            uvicorn.Config(app, port=port, http="httptools", loop="uvloop", log_level="warning", access_log=False)
        ).serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
