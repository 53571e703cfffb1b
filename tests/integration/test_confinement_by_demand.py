"""Where a call runs: the cheapest sandbox, a stronger one if the policy asks for it, a ready one where it may."""

import sys
from pathlib import Path
from typing import Any

import pytest
import support.drivers  # noqa: F401 - names the engine of the tests
from support.scene import SERVERS, Agent, events, grant, hang_up, until

from gateway.bootstrap import Running, running
from gateway.options import Options, SandboxOptions, ServerOptions
from gateway.walls import Walls
from sandbox.drivers import tried

HERE = Path("/proc/version").read_text()
PACK = '[tool.look]\neffect = "read"\npure = true\n[tool.look.arguments]\nabout = { role = "body" }\n'
DEMANDS = 'package operator\n\nobligations contains "sandbox:kernel" if input.tool == "look"\n'


def options(place: Path, *, policy: str = "", **profile: Any) -> Options:
    (place / "where.toml").write_text(PACK)
    bundles: tuple[Path, ...] = ()
    if policy:
        (place / "demands.rego").write_text(policy)
        bundles = (place / "demands.rego",)
    server = ServerOptions(
        name="where",
        command=(sys.executable, "-I", "-S", "-c", (SERVERS / "whereami.py").read_text()),
        pack=str(place / "where.toml"),
    )
    profiles = {"standard": SandboxOptions(**profile)}
    return Options(state=place / "state", port=0, servers={"where": server}, sandboxes=profiles, bundles=bundles)


async def walls(*names: str, **profile: Any) -> Walls:
    return Walls(tried=await tried(names), profiles={"standard": SandboxOptions(**profile)})


async def looked(gateway: Running) -> tuple[Any, str]:
    """What the server says of itself to a fresh task, and the driver that the intent names."""
    agent = Agent(gateway.url, (await grant(gateway, "where.look")).token)
    said = await agent.call("where__look")
    hang_up()
    assert said.code == ""
    return said.result, events(gateway, kind="effect.intent")[-1].payload["sandbox"]


@pytest.mark.promise("policy-demands-walls")
async def test_a_policy_that_demands_a_kernel_of_its_own_gets_one(tmp_path: Path) -> None:
    both = await walls("bubblewrap", "gvisor")
    async with running(options(tmp_path), both) as gateway:
        result, driver = await looked(gateway)
        assert (result["kernel"], driver) == (HERE, "bubblewrap")
    async with running(options(tmp_path, policy=DEMANDS), both) as gateway:
        result, driver = await looked(gateway)
        assert driver == "gvisor"
        assert result["kernel"] != HERE


@pytest.mark.promise("no-sandbox-no-run")
async def test_where_nothing_holds_it_the_call_is_denied_and_nothing_is_started(tmp_path: Path) -> None:
    async with running(options(tmp_path, policy=DEMANDS), await walls("bubblewrap")) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, "where.look")).token)
        assert (await agent.call("where__look")).code == "no_sandbox"
        hang_up()
        assert [event.task for event in events(gateway, kind="server.started")] == [""]  # the operator's look alone
        assert events(gateway, kind="effect.intent") == []


async def test_a_start_tries_what_its_profiles_need_and_no_more(tmp_path: Path) -> None:
    async with running(options(tmp_path)) as gateway:
        assert (await looked(gateway))[1] == "bubblewrap"
    async with running(options(tmp_path, driver="runc")) as gateway:
        assert (await looked(gateway))[1] == "runc"


@pytest.mark.promise("pool-single-use")
async def test_a_process_that_was_started_ahead_serves_one_task_and_is_replaced(tmp_path: Path) -> None:
    warm = await walls("bubblewrap", warm=1)
    async with running(options(tmp_path, warm=1), warm) as gateway:
        started = lambda: [(e.task, "ahead" in e.payload) for e in events(gateway, kind="server.started")]  # noqa: E731
        await until(lambda: ("", True) in started())
        seen = [(await looked(gateway))[0]["process"] for _ in range(4)]
        await until(lambda: started().count(("", True)) > 1)
        assert len(set(seen)) == 4
        assert len({task for task, _ in started() if task}) == 4
