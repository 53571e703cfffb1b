"""A server made with the SDK's low-level server whose tools ask their client's model, in the era that it is told.

`ask` asks once and says what it was told; `twice` asks for two answers at once, then for one more; `again` never has
enough; `form` asks a person beside the model; `stuff` wants much carried for it; `told` says what its client declared.
"""

import json
import sys
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server

SCHEMAS: dict[str, dict[str, Any]] = {
    "ask": {"type": "object", "properties": {"prompt": {"type": "string"}}},
    "twice": {"type": "object"},
    "again": {"type": "object"},
    "form": {"type": "object"},
    "stuff": {"type": "object"},
    "told": {"type": "object"},
}
TOOLS = [types.Tool(name=name, description=f"Tool {name}.", input_schema=schema) for name, schema in SCHEMAS.items()]


def wish(prompt: str) -> types.CreateMessageRequest:
    said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[said], max_tokens=20, _meta={"vendor/x": 1})
    )


def text(said: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=said)])


def words(answer: Any) -> str:
    return f"{answer.role} {answer.model} {answer.stop_reason}: {answer.content.text}"


async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult | types.InputRequiredResult:
    if params.name == "told":
        capabilities = ctx.session.client_params.capabilities.model_dump(by_alias=True, exclude_none=True)
        return text(json.dumps(capabilities, sort_keys=True))
    prompt = (params.arguments or {}).get("prompt", "Ahoy?")
    if sys.argv[1] == "legacy":
        wanted = wish(prompt).params
        return text(words(await ctx.session.create_message(wanted.messages, max_tokens=wanted.max_tokens)))
    answers = params.input_responses or {}
    match params.name, params.request_state:
        case "ask", None:
            return types.InputRequiredResult(input_requests={"say": wish(prompt)}, request_state="opaque \u00fc")
        case "twice", None:
            both = {"one": wish("one"), "two": wish("two")}
            return types.InputRequiredResult(input_requests=both, request_state="both")
        case "twice", "both":
            return types.InputRequiredResult(input_requests={"three": wish("three")}, request_state=" ".join(answers))
        case "again", _:
            return types.InputRequiredResult(input_requests={"more": wish("more")}, request_state="again")
        case "stuff", _:
            return types.InputRequiredResult(input_requests={"say": wish("x")}, request_state="x" * 900_000)
        case "form", _:
            form = types.ElicitRequestFormParams(message="Sure?", requested_schema={"type": "object", "properties": {}})
            mixed = {"say": wish("x"), "sure": types.ElicitRequest(params=form)}
            return types.InputRequiredResult(input_requests=mixed, request_state="mixed")
    return text(f"{params.request_state}; {'; '.join(f'{key}: {words(one)}' for key, one in answers.items())}")


async def main() -> None:
    server: Server[Any] = Server("muse", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write):
        options = server.create_initialization_options()
        if sys.argv[1] == "legacy":
            await serve_loop(server, read, write, lifespan_state={}, init_options=options)
        else:
            await server.run(read, write, options)


anyio.run(main)
