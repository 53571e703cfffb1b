"""The four cells, clients and servers of either era, with the official clients: list, call, progress, cancellation."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from support.live import Live, live
from support.rich import ERAS, TOOLS, rich
from support.strangers import CLIENTS, Step, converse, texts

from audit.query import Filter, query

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Harbour:
    live: Live
    log: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harbour(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harbour]:
    root = tmp_path_factory.mktemp("cells")
    (root / "log").mkdir()
    async with live(root / "state", *(rich(era, root / "log") for era in ERAS), allow=["legacy.*"]) as gateway:
        assert {name: found.era for name, found in gateway.gateway.finder.found.items()} == {era: era for era in ERAS}
        yield Harbour(gateway, root / "log")


@pytest.mark.promise("four-cells")
@pytest.mark.parametrize("server", ERAS)
async def test_clients_of_either_era_list_call_and_cancel_at_a_server_of_either_era(
    harbour: Harbour, server: str
) -> None:
    """All at once: each has a task, and so a process, of its own."""
    tasks = await asyncio.gather(*(go(harbour, server, client) for client in CLIENTS))
    await harbour.live.gateway.pipeline.drain()
    assert (harbour.log / server).read_text().split() == ["cancelled"] * len(CLIENTS)
    for task in tasks:
        log = query(harbour.live.gateway.memory.reader, Filter(task=task, kind="effect.outcome"))
        ended = sorted((record.tool, record.verdict) for record in log)
        assert ended == [("same", "ok"), ("same", "ok"), ("slow", "unknown"), ("steps", "ok")]


async def go(harbour: Harbour, server: str, client: str) -> str:
    """What one client does and sees; the task that it did it in."""
    granted = await harbour.live.grant(f"{server}.*")
    steps = [
        Step(f"{server}__same", {"value": ["ahoy", 1]}),
        Step(f"{server}__steps", {"count": 3}),
        Step(f"{server}__slow", cancel_at=2),
        Step(f"{server}__same", {"value": "and on"}),
    ]
    said = await converse(client, harbour.live.url, granted.token, steps)
    assert len(said.tools) == TOOLS, client
    spoken = [texts(said.results[at]) for at in (0, 1, 3)]
    assert spoken == ['{"value": ["ahoy", 1]}', "done", '{"value": "and on"}'], client
    assert isinstance(said.results[2], str), client

    nothing, rising, slow, _ = said.progress
    assert nothing == [], client
    assert rising == sorted(rising, key=lambda one: one[0]), client
    assert set(rising) <= {(1, 3, None), (2, 3, None), (3, 3, None)}, client
    assert slow[-1] == (2, 2, None), client
    return granted.task.id
