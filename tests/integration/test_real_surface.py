"""What real servers offer, and what an agent sees of it: packs that know every tool, lists of what a token reaches."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.live import approving
from support.real import Harbour, real
from support.strangers import CLIENTS, Step, code, converse, texts

from audit.query import Filter, query
from policies.packs import load_pack

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONDITIONAL = frozenset(
    {
        "get-roots-list",
        "trigger-elicitation-request",
        "trigger-elicitation-request-async",
        "trigger-sampling-request",
        "trigger-sampling-request-async",
        "trigger-url-elicitation",
    }
)
"""Tools of server-everything for clients that declare roots, sampling or elicitation: we declare nothing."""
TASK_ONLY = "simulate-research-query"
"""Runs only as a task, which is not mediated yet."""
REACHED = ("files__list_directory", "files__read_text_file", "git__git_log", "git__git_status", "memory__read_graph")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harbour(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harbour]:
    async with real(tmp_path_factory.mktemp("surface"), ["ann"]) as harbour:
        yield harbour


@pytest.mark.parametrize("server", ["everything", "files", "memory", "git"])
async def test_a_shipped_pack_knows_every_tool_and_argument_of_its_server_and_no_other(
    harbour: Harbour, server: str
) -> None:
    pack = load_pack(harbour.live.gateway.options.servers[server].pack or "")
    offered = harbour.live.gateway.finder.found[server].survey.offered
    absent = CONDITIONAL | {TASK_ONLY} if server == "everything" else frozenset[str]()
    assert pack.tools.keys() == offered.keys() | absent
    for name, described in offered.items():
        assert isinstance(described.body, dict)
        named = {
            argument.split("/")[1] if argument.startswith("/") else argument for argument in pack.tools[name].arguments
        }
        assert named == described.body["inputSchema"].get("properties", {}).keys(), name


@pytest.mark.promise("listing-is-reach")
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_list_shows_what_the_token_reaches_in_one_order_and_is_recorded(harbour: Harbour, client: str) -> None:
    granted = await harbour.live.grant(
        "memory.read_graph",
        f'git.git_status(repo_path = "{harbour.repos / "ann"}")',
        "git.git_log",
        "files.read_text_file",
        "files.list_directory",
    )
    steps = [Step("memory__read_graph"), Step("memory__search_nodes", {"query": "x"})]
    said = await converse(client, harbour.live.url, granted.token, steps)
    assert tuple(tool["name"] for tool in said.tools) == REACHED
    assert [code(result) for result in said.results] == ["", "no_capability"]

    one = await converse(client, f"{harbour.live.url}/git", granted.token, [])
    assert [tool["name"] for tool in one.tools] == ["git_log", "git_status"]

    log = query(harbour.live.gateway.memory.reader, Filter(task=granted.task.id, kind="listed"))
    shown = [record.payload["tools"] for record in log if record.payload]
    assert shown[0] == list(REACHED)
    assert shown[-1] == ["git_log", "git_status"]
    assert {record.agent for record in log} == {granted.task.agent}


@pytest.mark.promise("not-yet-mediated")
async def test_a_tool_that_needs_what_is_not_mediated_is_not_offered_and_its_call_is_refused(harbour: Harbour) -> None:
    gateway = harbour.live.gateway
    why = gateway.servers.shown("everything")["refused"]
    assert why == {TASK_ONLY: "it can only be run as a task, which is not yet mediated"}
    steps = [Step(f"everything__{name}", {"topic": "x", "prompt": "x"}) for name in sorted(CONDITIONAL | {TASK_ONLY})]
    said = await converse("python-legacy", harbour.live.url, harbour.live.token, steps)
    assert {code(result) for result in said.results} == {"unknown_tool"}
    assert {texts(result) for result in said.results} == {"No tool of that name can be called here."}
    assert not {tool["name"] for tool in said.tools} & {step.tool for step in steps}


@pytest.mark.promise("sandbox-network")
async def test_a_server_in_its_sandbox_has_no_network_whatever_a_person_approves(harbour: Harbour) -> None:
    step = Step("everything__gzip-file-as-resource", {"name": "x.gz", "data": "https://example.org/x"})
    async with approving(harbour.live.gateway) as asked:
        said = await converse("python-modern", harbour.live.url, harbour.live.token, [step])
    assert [ticket.card["tool"] for ticket in asked] == ["gzip-file-as-resource"]
    (result,) = said.results
    assert not isinstance(result, str)
    assert (code(result), result["isError"]) == ("", True)
    assert "fetch failed" in texts(result)


@pytest.mark.promise("cancel-keeps-outcome")
@pytest.mark.parametrize("client", ["python-modern", "typescript-1"])
async def test_a_real_server_is_asked_to_stop_and_goes_on_to_serve(harbour: Harbour, client: str) -> None:
    granted = await harbour.live.grant("everything.*")
    steps = [
        Step("trigger-long-running-operation", {"duration": 40, "steps": 200}, cancel_at=2),
        Step("echo", {"message": "still here"}),
    ]
    said = await converse(client, f"{harbour.live.url}/everything", granted.token, steps)
    await harbour.live.gateway.pipeline.drain()
    assert texts(said.results[1]) == "Echo: still here"
    assert all(total == 200 and words is None for _, total, words in said.progress[0])
    log = query(harbour.live.gateway.memory.reader, Filter(task=granted.task.id, kind="effect.outcome"))
    outcomes = {record.tool: (record.verdict, record.payload) for record in log}
    assert outcomes["trigger-long-running-operation"][0] == "unknown"
    assert "cancelled" in str(outcomes["trigger-long-running-operation"][1])
