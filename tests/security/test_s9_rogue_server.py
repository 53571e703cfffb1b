"""S9: a rogue MCP server. It is quarantined or ended, sizes and times are capped, and other servers do not notice.

Each attack is also made with its control off. Where the control is the connection itself (what a server may say, and
how much of it), "off" is the official client wired straight to the same server.
"""

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from support.live import connected
from support.scene import OPERATOR, SERVERS, Agent, events, grant, scene, till, until

from gateway.bootstrap import Running
from gateway.errors import OperatorError
from gateway.options import Access, Mount, ServerOptions
from policies.describe import Survey

MB = 1 << 20


def hostile(name: str, *more: str, **options: Any) -> ServerOptions:
    command = (sys.executable, "-P", "-S", str(SERVERS / "hostile.py"), *more)
    return ServerOptions(name=name, command=command, mounts=(Mount(path=SERVERS),), **options)


def remembering(folder: Path, name: str) -> ServerOptions:
    """A hostile server that may write: what it was told to say of its tools outlives its process."""
    folder.mkdir()
    server = hostile(name, "--remember", str(folder / "said"))
    return replace(server, mounts=(*server.mounts, Mount(path=folder, access=Access.DIRECT)))


@asynccontextmanager
async def straight(script: str, *arguments: str, **how: Any) -> AsyncIterator[Client]:
    """The agent's own child process, and nobody between."""
    command = StdioServerParameters(command=sys.executable, args=["-P", str(SERVERS / script), *arguments])
    async with Client(stdio_client(command), **how) as client:
        yield client


async def listed(gateway: Running, token: str, mode: str = "auto") -> dict[str, str]:
    """What an agent is shown: public name to description."""
    async with connected(f"{gateway.url}/mcp", token, mode) as client:
        return {tool.name: tool.description or "" for tool in (await client.list_tools()).tools}


# ---- definitions -------------------------------------------------------------------------------------------------


@pytest.mark.promise("changed-tool-quarantined")
async def test_a_tool_described_anew_after_pinning_is_neither_shown_nor_called(tmp_path: Path) -> None:
    async with scene(tmp_path / "state", remembering(tmp_path / "rogue", "rogue"), hostile("kind")) as gateway:
        token = (await grant(gateway, "rogue.*", "kind.*")).token
        agent = Agent(gateway.url, token)
        assert not (await agent.call("rogue__plain")).code
        await agent.call("rogue__redefine")
        await until(lambda: events(gateway, kind="definition.changed"))

        shown = await listed(gateway, token)
        assert "rogue__plain" not in shown
        assert shown["kind__plain"] == "Plain."
        assert not any("id_rsa" in description for description in shown.values())
        assert (await agent.call("rogue__plain")).code == "definition_changed"
        assert not (await agent.call("kind__plain")).code, "another server's tool of the same name is unaffected"
        (change,) = gateway.servers.diff("rogue")
        assert any("id_rsa" in line for line in change["diff"]), "a person is shown what changed"
        await gateway.servers.accept("rogue", "plain", by=OPERATOR, seen=change["seen"])
        assert not (await agent.call("rogue__plain")).code


@pytest.mark.promise("listings-are-the-operators")
async def test_what_one_tasks_process_says_of_its_tools_changes_nothing_for_another(tmp_path: Path) -> None:
    """Otherwise a description, or which tools there are, carries one task's data into another one's list, unmarked."""
    async with scene(tmp_path / "state", hostile("rogue")) as gateway:
        told, other = [(await grant(gateway, "rogue.*")).token for _ in range(2)]
        teller, reader = Agent(gateway.url, told), Agent(gateway.url, other)
        before = await listed(gateway, other)
        assert not (await teller.call("rogue__tell")).code
        # the operator looks at start, and again because a task's process listed something else
        await until(lambda: sum(not one.task for one in events(gateway, kind="server.stopped")) == 2)

        assert await listed(gateway, other) == before == await listed(gateway, told)
        assert not events(gateway, kind="definition.changed")
        assert (await teller.call("rogue__told")).code == "unknown_tool"
        assert (await teller.call("rogue__plain")).code == ""
        assert (await teller.call("rogue__progress")).code == "definition_changed", "its own process offers it no more"
        assert (await reader.call("rogue__progress")).code == ""


async def test_with_every_new_definition_believed_the_poisoned_one_is_shown_and_called(tmp_path: Path) -> None:
    async with scene(tmp_path / "state", remembering(tmp_path / "rogue", "rogue")) as gateway:
        definitions = gateway.servers.definitions

        async def believe(survey: Survey) -> None:
            await definitions.observe(survey)
            with suppress(OperatorError):  # nothing new
                await definitions.accept(survey.server, None, "nobody")

        gateway.table.report = believe
        token = (await grant(gateway, "rogue.*")).token
        agent = Agent(gateway.url, token)
        await agent.call("rogue__redefine")
        await until(lambda: events(gateway, kind="definition.accepted"))
        assert "id_rsa" in (await listed(gateway, token))["rogue__plain"]
        assert not (await agent.call("rogue__plain")).code


@pytest.mark.promise("shadowing-refused")
async def test_names_that_shadow_and_schemas_without_bound_are_not_offered(tmp_path: Path) -> None:
    bad = {"Plain", "twice", "circular", "phones-home"}
    async with scene(tmp_path / "state", hostile("rogue", "--shadow"), hostile("kind")) as gateway:
        token = (await grant(gateway, "rogue.*", "kind.*")).token
        shown = await listed(gateway, token)
        agent = Agent(gateway.url, token)
        assert not {f"rogue__{name}" for name in bad} & shown.keys()
        assert {"kind__plain", "rogue__crash"} <= shown.keys(), "the others stand"
        for name in bad:
            assert (await agent.call(f"rogue__{name}")).code == "unknown_tool"
        assert bad <= gateway.servers.shown("rogue")["refused"].keys()

    async with straight("hostile.py", "--shadow") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
    assert bad <= set(names), "wired straight, the agent is shown all of them"
    assert names.count("twice") > 1


# ---- what it says, and how much ----------------------------------------------------------------------------------


@pytest.mark.promise("upstream-bounded")
async def test_whatever_a_server_does_ends_its_own_call_and_no_other(tmp_path: Path) -> None:
    """Crash, flood, a gigabyte, malformed JSON-RPC, a hang and a slow loris, all at once, beside a kind server."""
    attacks = ("crash", "flood", "endless", "malformed", "surrogate", "hang")
    rogues = [hostile(f"rogue-{n}", max_result_bytes=MB, deadline_s=2.0) for n in range(len(attacks))]
    loris = till(tmp_path / "loris", name="loris", deadline_s=1.0)
    async with scene(tmp_path / "state", *rogues, loris, hostile("kind")) as gateway:
        allow = [*(f"{one.name}.*" for one in rogues), "loris.drip(seconds = 600)", "loris.huge", "kind.*"]
        token = (await grant(gateway, *allow)).token
        agents = [Agent(gateway.url, token) for _ in (*attacks, "drip")]
        quick = Agent(gateway.url, token)
        await quick.call("kind__plain")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        calls = [agent.call(f"rogue-{n}__{attacks[n]}") for n, agent in enumerate(agents[:-1])]
        bad = asyncio.gather(*calls, agents[-1].call("loris__drip", seconds=600))
        times = []
        while not bad.done():
            started = time.monotonic()
            assert not (await quick.call("kind__plain")).code
            times.append(time.monotonic() - started)
        said = await bad

        assert [one.code for one in said[:5]] == ["unknown_outcome"] * 5
        assert [one.code for one in said[5:]] == ["upstream_timeout"] * 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 96 * 1024, "kilobytes"
        assert len(times) > 20
        assert sorted(times)[len(times) * 99 // 100] < 1.0
        for n in range(len(attacks)):
            assert not (await quick.call(f"rogue-{n}__plain")).code, "the next call gets a fresh server"
        assert not (await quick.call("loris__huge")).code
        print({"kind calls": len(times), "p50_ms": 1000 * sorted(times)[len(times) // 2], "max_ms": 1000 * max(times)})


async def test_without_a_deadline_the_slow_loris_holds_its_caller(tmp_path: Path) -> None:
    async with scene(tmp_path / "state", till(tmp_path / "loris", name="loris")) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, "loris.drip(seconds = 600)")).token)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await agent.call("loris__drip", seconds=600)
        assert events(gateway, kind="effect.intent")
        assert not events(gateway, kind="effect.outcome")


@pytest.mark.parametrize(("cap", "code"), [(MB, "unknown_outcome"), (64 * MB, "")])
async def test_a_result_beyond_the_cap_does_not_arrive_and_without_the_cap_it_does(
    tmp_path: Path, cap: int, code: str
) -> None:
    server = till(tmp_path / "till", max_result_bytes=cap)
    async with scene(tmp_path / "state", server) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, "till.*")).token)
        said = await agent.call("till__big", bytes=16 * MB)
        assert said.code == code
        assert len(str(said.body)) > (0 if code else 16 * MB)


async def test_wired_straight_a_flood_holds_its_caller() -> None:
    async with straight("hostile.py") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await client.call_tool("flood", {})


# ---- phishing ----------------------------------------------------------------------------------------------------


@pytest.mark.promise("no-phishing")
async def test_a_server_cannot_ask_the_person_behind_the_client(tmp_path: Path) -> None:
    asked: list[str] = []

    async def fill_in(_: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"password": "hunter2"})

    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        token = (await grant(gateway, "till.*")).token
        agent = Agent(gateway.url, token)
        assert (await agent.call("till__phish")).result == {"answered": None}
    assert asked == []

    async with straight("till.py", str(folder), elicitation_callback=fill_in) as client:
        got = await client.call_tool("phish", {})
    assert asked == ["Your bank password, please."], "wired straight, the person is asked"
    assert "hunter2" in str(got.structured_content)
