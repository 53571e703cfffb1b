"""The four cells, legacy and modern clients and servers, with the official clients: list, call, progress, cancellation."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from support.live import Live, live
from support.rich import ERAS, rich
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
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ERAS)
async def test_a_client_of_either_era_lists_calls_and_cancels_at_a_server_of_either_era(
    harbour: Harbour, server: str, client: str
) -> None:
    granted = await harbour.live.grant(f"{server}.*")
    (harbour.log / server).unlink(missing_ok=True)
    steps = [
        Step(f"{server}__same", {"value": ["ahoy", 1]}),
        Step(f"{server}__steps", {"count": 3}),
        Step(f"{server}__slow", cancel_at=2),
        Step(f"{server}__same", {"value": "and on"}),
    ]
    said = await converse(client, harbour.live.url, granted.token, steps)
    assert len(said.tools) == 12
    assert [texts(said.results[at]) for at in (0, 1, 3)] == ['{"value": ["ahoy", 1]}', "done", '{"value": "and on"}']
    assert isinstance(said.results[2], str)

    nobody, steps_shown, slow_shown, _ = said.progress
    assert nobody == []
    assert steps_shown == sorted(steps_shown)
    assert set(steps_shown) <= {(1, 3, None), (2, 3, None), (3, 3, None)}
    assert slow_shown[-1] == (2, 2, None)

    await harbour.live.gateway.pipeline.drain()
    assert (harbour.log / server).read_text() == "cancelled"
    log = query(harbour.live.gateway.memory.reader, Filter(task=granted.task.id, kind="effect.outcome"))
    outcomes = {record.tool: record.verdict for record in log}
    print(outcomes)
    assert len(log) == 4
