"""The same requests to a server made with the SDK, directly and through the gateway, as messages: nothing is decoded by
a client on the way, so that fields nobody knows are compared too. What differs is `DIFFERENCES`, and nothing else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.live import Live, live
from support.rich import ERAS, command, rich

from gateway.wire.answers import SENTENCES
from policies.verdict import Code

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON: TypeAlias = dict[str, Any]

VERSION = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
ME = {"name": "stranger", "version": "1"}
ENVELOPE = {f"{PREFIX}protocolVersion": VERSION, f"{PREFIX}clientCapabilities": {}, f"{PREFIX}clientInfo": ME}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": ME}
BAGGAGE = {"vendor/baggage": "from the agent", "progressToken": "mine"}


@dataclass(slots=True)
class Direct:
    """A plain child of this process, spoken to in its era."""

    era: str
    process: asyncio.subprocess.Process
    _next: int = 0

    async def ask(self, method: str, **params: Any) -> JSON:
        """The message that answers; notifications before it are left out."""
        self._next += 1
        meta = params.pop("_meta", {}) | (ENVELOPE if self.era == "modern" else {})
        await self.tell({"id": self._next, "method": method, "params": params | {"_meta": meta}})
        assert self.process.stdout
        while True:
            message: JSON = json.loads(await self.process.stdout.readline())
            if "method" in message and "id" in message:  # what the gateway answers too: it declares no capability
                refusal = {"code": -32601, "message": "Method not found"}
                await self.tell({"id": message["id"], "error": refusal})
            elif message.get("id") == self._next:
                return message

    async def tell(self, message: JSON) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")
        await self.process.stdin.drain()


@asynccontextmanager
async def direct(era: str) -> AsyncIterator[Direct]:
    process = await asyncio.create_subprocess_exec(*command(era), stdin=-1, stdout=-1, limit=1 << 24)
    server = Direct(era, process)
    if era == "legacy":
        await server.ask("initialize", **INITIALIZE)
        await server.tell({"method": "notifications/initialized"})
    try:
        yield server
    finally:
        process.kill()
        await process.wait()


@dataclass(slots=True)
class Through:
    """A client of the gateway that speaks HTTP by hand, in its era."""

    era: str
    url: str
    http: httpx2.AsyncClient
    session: Mapping[str, str] = field(default_factory=dict)
    _next: int = 0

    async def ask(self, method: str, **params: Any) -> JSON:
        self._next += 1
        fields = dict(self.session)
        if self.era == "modern":
            params["_meta"] = params.get("_meta", {}) | ENVELOPE
            fields |= {"mcp-protocol-version": VERSION, "mcp-method": method}
            fields |= {"mcp-name": params["name"]} if "name" in params else {}
        body = json.dumps({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        answer = await self.http.post(self.url, content=body.encode(), headers=fields)
        assert answer.status_code == 200, answer.text
        if method == "initialize":
            self.session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        message: JSON = json.loads(answer.content)
        return message


@asynccontextmanager
async def through(era: str, gateway: Live) -> AsyncIterator[Through]:
    fields = {
        "authorization": f"Bearer {gateway.token}",
        "content-type": "application/json",
        "accept": "application/json",
    }
    async with httpx2.AsyncClient(headers=fields, timeout=30) as http:
        client = Through(era, gateway.url, http)
        if era == "legacy":
            await client.ask("initialize", **INITIALIZE)
        yield client


@dataclass(frozen=True, slots=True)
class Cells:
    servers: Mapping[str, Direct]
    clients: Mapping[str, Through]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cells]:
    root = tmp_path_factory.mktemp("differential")
    (root / "log").mkdir()
    servers = [rich(era, root / "log") for era in ERAS]
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(live(root / "state", *servers, allow=["legacy.*", "modern.*"]))
        yield Cells(
            {era: await stack.enter_async_context(direct(era)) for era in ERAS},
            {era: await stack.enter_async_context(through(era, gateway)) for era in ERAS},
        )


# ---- what differs --------------------------------------------------------------------------------------------------


def result_type(result: JSON, client: str) -> None:
    """Every modern client is told the type of a result, and no legacy one is, whatever the server speaks."""
    result.pop("resultType", None)
    if client == "modern":
        result["resultType"] = "complete"


def our_namespace(result: JSON, _: str) -> None:
    """Nobody but the gateway says `dev.pratique/...`."""
    for key in [key for key in result.get("_meta", {}) if key.startswith("dev.pratique/")]:
        del result["_meta"][key]


def filled_defaults(result: JSON, _: str) -> None:
    """The server is sent the defaults of its schema."""
    result["structuredContent"]["arguments"] = {"times": 1} | result["structuredContent"]["arguments"]


def integral_numbers(result: JSON, _: str) -> None:
    """Arguments: a float without a fraction is sent as the integer that it is."""
    result["structuredContent"] = integral(result["structuredContent"])
    result["content"][0]["text"] = json.dumps(result["structuredContent"], sort_keys=True)


def request_meta(result: JSON, _: str) -> None:
    """The server sees the gateway's `_meta`, and nothing of the agent's: neither its baggage nor its token."""
    meta = result["structuredContent"]["meta"]
    del meta["vendor/baggage"]
    meta["progress_token"] = "ours"
    if f"{PREFIX}clientInfo" in meta:
        meta[f"{PREFIX}clientInfo"] = "the gateway's"


DIFFERENCES: Mapping[str, tuple[Callable[[JSON, str], None], ...]] = {
    "*": (result_type, our_namespace),
    "defaults": (filled_defaults,),
    "same": (integral_numbers,),
    "meta": (request_meta,),
}
"""By tool: how a result differs behind the gateway. Errors differ too: `test_an_error_of_the_server...`."""

CALLS: tuple[tuple[str, JSON], ...] = (
    ("same", {"value": [1, "ü \u202e\u0000", None, True, {"a": {"b": [2.5, -3.0, 2**53 - 1]}}]}),
    ("defaults", {"text": "ahoy"}),
    ("meta", {}),
    ("media", {}),
    ("unknown", {}),
    ("fails", {}),
    ("forges", {}),
    ("big", {"kib": 3000}),
    ("steps", {"count": 3}),
)


def integral(value: Any) -> Any:
    match value:
        case dict():
            return {key: integral(each) for key, each in value.items()}
        case list():
            return [integral(each) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def expected(said: JSON, tool: str, client: str) -> JSON:
    result: JSON = said["result"]
    for differs in DIFFERENCES["*"] + DIFFERENCES.get(tool, ()):
        differs(result, client)
    return result


def exact(value: Any) -> str:
    """JSON as text: `1`, `1.0` and `true` are three things."""
    return json.dumps(value, sort_keys=True)


# ---- the comparison ------------------------------------------------------------------------------------------------


@pytest.mark.promise("results-unchanged")
@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("server", ERAS)
async def test_a_result_is_the_same_through_the_gateway_but_for_what_is_listed(
    cells: Cells, server: str, client: str
) -> None:
    for tool, arguments in CALLS:
        here = await cells.servers[server].ask("tools/call", name=tool, arguments=arguments, _meta=dict(BAGGAGE))
        there = await cells.clients[client].ask(
            "tools/call", name=f"{server}__{tool}", arguments=arguments, _meta=dict(BAGGAGE)
        )
        if tool == "meta":
            there["result"]["structuredContent"]["meta"] |= masked(there["result"]["structuredContent"]["meta"])
        assert exact(there["result"]) == exact(expected(here, tool, client)), tool
        if tool == "unknown":
            assert there["result"]["vendorField"] == {"deep": [1, None, 2.5, 2**60]}
            assert there["result"]["content"][0]["vendorBlock"]["x-trace"] == "abc"


def masked(meta: JSON) -> JSON:
    """What is the gateway's own in a server's sight; an id that is not the agent's, and its own name."""
    assert meta["progress_token"].startswith("act_")
    assert meta.get(f"{PREFIX}clientInfo", {"name": "pratique"})["name"] == "pratique"
    ours = {"progress_token": "ours"}
    return ours | ({f"{PREFIX}clientInfo": "the gateway's"} if f"{PREFIX}clientInfo" in meta else {})


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("server", ERAS)
async def test_an_error_of_the_server_and_a_question_of_its_become_refusals_of_ours(
    cells: Cells, server: str, client: str
) -> None:
    raised = await cells.servers[server].ask("tools/call", name="raises", arguments={})
    assert "error" in raised
    asked = await cells.servers[server].ask("tools/call", name="asks", arguments={})
    assert "error" in asked or asked["result"]["resultType"] == "input_required"
    opens = await cells.servers[server].ask("tools/call", name="opens", arguments={})
    assert opens["error"]["code"] == -32042
    codes = {
        "raises": "upstream_failed",
        "asks": "not_mediated" if server == "modern" else "upstream_failed",
        "opens": "not_mediated",
    }
    for tool, code in codes.items():
        there = await cells.clients[client].ask("tools/call", name=f"{server}__{tool}", arguments={})
        result = there["result"]
        assert set(result) == {"content", "isError", "_meta"} | ({"resultType"} if client == "modern" else set())
        assert result["isError"]
        assert result["_meta"]["dev.pratique/decision"]["code"] == code
        assert [block["text"] for block in result["content"]] == [SENTENCES[Code(code)]]


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("server", ERAS)
async def test_a_listing_is_the_same_but_whole_sorted_prefixed_and_without_meta(
    cells: Cells, server: str, client: str
) -> None:
    here = cells.servers[server]
    first = (await here.ask("tools/list"))["result"]
    second = (await here.ask("tools/list", cursor=first["nextCursor"]))["result"]
    tools = [tool | {"name": f"{server}__{tool['name']}"} for tool in first["tools"] + second["tools"]]
    for tool in tools:
        assert tool.pop("_meta")
    there = (await cells.clients[client].ask("tools/list"))["result"]
    listed = [tool for tool in there.pop("tools") if tool["name"].startswith(f"{server}__")]
    assert exact(listed) == exact(sorted(tools, key=lambda tool: str(tool["name"])))
    assert "nextCursor" not in there
    if client == "modern":
        assert (there["resultType"], there["cacheScope"]) == ("complete", "private")


SAFE = 2**53 - 1
NUMBERS = st.integers(-SAFE, SAFE) | st.floats(-SAFE, SAFE, allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.promise("results-unchanged")
@settings(max_examples=60, deadline=None)
@given(value=VALUES, server=st.sampled_from(ERAS), client=st.sampled_from(ERAS))
async def test_any_arguments_reach_the_server_and_any_result_comes_back_as_they_would_directly(
    cells: Cells, value: Any, server: str, client: str
) -> None:
    here = await cells.servers[server].ask("tools/call", name="same", arguments={"value": value})
    there = await cells.clients[client].ask("tools/call", name=f"{server}__same", arguments={"value": value})
    assert exact(there["result"]) == exact(expected(here, "same", client))
