"""Servers that nobody here wrote, each in its sandbox, called with the official clients: every tool that they offer.

npm server-everything, server-filesystem and server-memory speak the legacy era, PyPI mcp-server-git the modern one.
Where a rule of the grant proves an argument it is used; what cannot be undone is approved at the desk, call by call.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from support.live import approving
from support.real import Harbour, git, real
from support.strangers import CLIENTS, JSON, Step, code, converse, texts

from audit.query import Filter, query

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Part:
    """What one client does with one server."""

    steps: Sequence[Step]
    rules: Sequence[str]
    says: Sequence[str]
    """By step, what its text holds."""
    asked: Sequence[str] = ()
    """Tools for which a person was asked, in order."""
    done: Callable[[], bool] = lambda: True
    """What must have happened outside the gateway."""
    checks: dict[int, Callable[[JSON], bool]] = field(default_factory=dict)
    """By step, what else its result must be."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harbour(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harbour]:
    async with real(tmp_path_factory.mktemp("real"), CLIENTS) as harbour:
        yield harbour


def everything(_: Harbour, client: str) -> Part:
    data = "data:text/plain;base64,YWhveQ=="
    return Part(
        rules=["everything.*", f'everything.gzip-file-as-resource(data = "{data}", name = "{client}.gz")'],
        steps=[
            Step("echo", {"message": "ahoy ü"}),
            Step("get-sum", {"a": 2, "b": 3.5}),
            Step("get-annotated-message", {"messageType": "error", "includeImage": True}),
            Step("get-env"),
            Step("get-resource-links", {"count": 2}),
            Step("get-resource-reference", {"resourceType": "Blob", "resourceId": 2}),
            Step("get-structured-content", {"location": "Chicago"}),
            Step("get-tiny-image"),
            Step("gzip-file-as-resource", {"name": f"{client}.gz", "data": data, "outputType": "resource"}),
            Step("toggle-simulated-logging"),
            Step("toggle-subscriber-updates"),
            Step("trigger-long-running-operation", {"duration": 0.3, "steps": 3}),
        ],
        says=[
            "Echo: ahoy ü",
            "The sum of 2 and 3.5 is 5.5.",
            "Error: Operation failed",
            '"HOME": "/tmp"',
            "Here are 2 resource links",
            "",
            "temperature",
            "MCP",
            "",
            "Started simulated",
            "Started simulated",
            "Long running operation completed. Duration: 0.3 seconds, Steps: 3.",
        ],
        asked=["gzip-file-as-resource"],
        checks={
            2: lambda result: [block["type"] for block in result["content"]] == ["text", "image"],
            3: lambda result: "PRATIQUE" not in texts(result) and "PYTEST" not in texts(result),
            4: lambda result: [block["type"] for block in result["content"]].count("resource_link") == 2,
            5: lambda result: "blob" in result["content"][1]["resource"],
            6: lambda result: result["structuredContent"]["conditions"] == "Light rain / drizzle",
            7: lambda result: any(block["type"] == "image" for block in result["content"]),
            8: lambda result: result["content"][0]["resource"]["blob"].startswith("H4sI"),
        },
    )


def files(harbour: Harbour, client: str) -> Part:
    box = harbour.box / client
    old, new, moved, folder = (str(box / name) for name in ("old.txt", "new.txt", "moved.txt", "folder"))
    return Part(
        rules=[
            "files.*",
            f'files.create_directory(path = "{folder}")',
            f'files.write_file(path = "{new}")',
            f'files.edit_file(path = "{new}")',
            f'files.move_file(source = "{new}", destination = "{moved}")',
        ],
        steps=[
            Step("list_allowed_directories"),
            Step("create_directory", {"path": folder}),
            Step("write_file", {"path": new, "content": "ahoy\n"}),
            Step("edit_file", {"path": new, "edits": [{"oldText": "ahoy", "newText": "land"}]}),
            Step("move_file", {"source": new, "destination": moved}),
            Step("read_file", {"path": moved}),
            Step("read_text_file", {"path": old, "head": 2}),
            Step("read_media_file", {"path": moved}),
            Step("read_multiple_files", {"paths": [old, moved]}),
            Step("list_directory", {"path": str(box)}),
            Step("list_directory_with_sizes", {"path": str(box), "sortBy": "size"}),
            Step("directory_tree", {"path": str(box)}),
            Step("search_files", {"path": str(box), "pattern": "**/*.txt"}),
            Step("get_file_info", {"path": moved}),
        ],
        says=[
            str(harbour.box),
            "Successfully created directory",
            "Successfully wrote",
            "+land",
            "Successfully moved",
            "land",
            "one\ntwo",
            "",
            "three",
            "[DIR] folder",
            "moved.txt",
            '"name": "folder"',
            moved,
            "isFile: true",
        ],
        asked=["write_file", "edit_file", "move_file"],
        done=lambda: Path(moved).read_text() == "land\n" and not Path(new).exists() and Path(folder).is_dir(),
    )


def memory(harbour: Harbour, client: str) -> Part:
    ship, crew = f"ship {client}", f"crew {client}"
    relation = {"from": crew, "to": ship, "relationType": "sails"}
    entities = [
        {"name": ship, "entityType": "ship", "observations": ["has two masts"]},
        {"name": crew, "entityType": "people", "observations": []},
    ]
    return Part(
        rules=[
            "memory.*",
            f'memory.create_entities(/entities/0/name = "{ship}", /entities/1/name = "{crew}")',
            f'memory.create_relations(/relations/0/from = "{crew}", /relations/0/to = "{ship}")',
            f'memory.add_observations(/observations/0/entityName = "{ship}")',
        ],
        steps=[
            Step("create_entities", {"entities": entities}),
            Step("create_relations", {"relations": [relation]}),
            Step("add_observations", {"observations": [{"entityName": ship, "contents": ["is red"]}]}),
            Step("read_graph"),
            Step("search_nodes", {"query": ship}),
            Step("open_nodes", {"names": [crew]}),
            Step("delete_observations", {"deletions": [{"entityName": ship, "observations": ["is red"]}]}),
            Step("delete_relations", {"relations": [relation]}),
            Step("delete_entities", {"entityNames": [crew]}),
        ],
        says=[ship, "sails", "is red", "has two masts", "is red", crew, "deleted", "deleted", "deleted"],
        asked=["delete_observations", "delete_relations", "delete_entities"],
        done=lambda: ship in (saved := (harbour.memory / "graph.jsonl").read_text()) and crew not in saved,
        checks={3: lambda result: any(each["name"] == crew for each in result["structuredContent"]["entities"])},
    )


def git_server(harbour: Harbour, client: str) -> Part:
    repo = harbour.repos / client
    at = {"repo_path": str(repo)}
    return Part(
        rules=[
            "git.*",
            f'git.git_add(repo_path = "{repo}", files = "a.txt")',
            f'git.git_commit(repo_path = "{repo}")',
            f'git.git_create_branch(repo_path = "{repo}", branch_name = "side")',
            f'git.git_checkout(repo_path = "{repo}", branch_name = "side")',
            f'git.git_reset(repo_path = "{repo}")',
        ],
        steps=[
            Step("git_status", at),
            Step("git_diff_unstaged", at),
            Step("git_add", at | {"files": ["a.txt"]}),
            Step("git_diff_staged", at),
            Step("git_reset", at),
            Step("git_diff", at | {"target": "HEAD"}),
            Step("git_add", at | {"files": ["a.txt"]}),
            Step("git_commit", at | {"message": "Go on"}),
            Step("git_log", at | {"max_count": 1}),
            Step("git_show", at | {"revision": "HEAD"}),
            Step("git_create_branch", at | {"branch_name": "side"}),
            Step("git_checkout", at | {"branch_name": "side"}),
            Step("git_branch", at | {"branch_type": "local"}),
        ],
        says=[
            "modified:   a.txt",
            "+second",
            "staged",
            "+second",
            "reset",
            "+second",
            "staged",
            "committed",
            "Go on",
            "+second",
            "side",
            "side",
            "* side",
        ],
        asked=["git_reset"],
        done=lambda: git(repo, "log", "--format=%s", "side").split("\n")[0] == "Go on",
    )


PARTS = {"everything": everything, "files": files, "memory": memory, "git": git_server}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", PARTS)
async def test_every_tool_of_a_real_server_works_for_every_official_client(
    harbour: Harbour, server: str, client: str
) -> None:
    part = PARTS[server](harbour, client)
    granted = await harbour.live.grant(*part.rules)
    async with approving(harbour.live.gateway) as tickets:
        said = await converse(client, f"{harbour.live.url}/{server}", granted.token, part.steps)

    assert {tool["name"] for tool in said.tools} == {step.tool for step in part.steps}
    for step, says, result in zip(part.steps, part.says, said.results, strict=True):
        assert not isinstance(result, str), f"{step.tool}: {result}"
        assert not result.get("isError"), f"{step.tool}: {texts(result)} {code(result)}"
        assert says in texts(result), step.tool
    for index, holds in part.checks.items():
        assert holds(said.results[index]), f"{part.steps[index].tool}: {said.results[index]}"  # type: ignore[arg-type]
    assert [ticket.card["tool"] for ticket in tickets] == list(part.asked)
    assert part.done()
    log = query(harbour.live.gateway.memory.reader, Filter(task=granted.task.id, kind="effect.outcome"))
    assert [(record.tool, record.verdict) for record in log] == [(step.tool, "ok") for step in part.steps]
