"""Servers that ask for a model, real ones in their sandboxes, answered by SmolLM2 through the whole corridor.

npm server-everything asks in the legacy era, while it works on a call; the other two are made with the SDK, one of each
era. A sample is an action of its own: its intent, its outcome and its refusal name the call that caused it.
"""

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from support.live import approving, connected
from support.llm import Modelled, modelled
from support.rich import SERVERS
from support.strangers import NODE, code, package, texts

from audit.query import Filter, Record, query
from gateway.control import Granted
from gateway.options import Mount, ServerOptions
from gateway.stores.codec import decode_label
from policies.jsonvalue import canonical
from policies.label import Label

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = 500
REAL = ("everything", "everything__trigger-sampling-request", {"prompt": "Say ahoy.", "maxTokens": 12})
LEGACY = ("legacy", "legacy__ask", {"prompt": "Say ahoy."})
MODERN = ("modern", "modern__ask", {"prompt": "Say ahoy."})
asking = pytest.mark.parametrize("asks", [REAL, LEGACY, MODERN], ids=["real", "legacy", "modern"])

CODES = {"everything": "no_capability", "legacy": "upstream_failed", "modern": "not_mediated"}
"""What an agent is told where its server gets no model: the first has no such tool then, the others ask in vain."""
PACK = """
[tool.ask]
effect = "read"
arguments = { prompt = { role = "body" } }
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Modelled]:
    """One gateway for all of the file."""
    root = tmp_path_factory.mktemp("gateway")
    (root / "muse.toml").write_text(PACK)
    muses = [
        ServerOptions(
            name=era,
            command=(sys.executable, "-P", str(SERVERS / "muse.py"), era),
            mounts=(Mount(path=SERVERS),),
            pack=str(root / "muse.toml"),
        )
        for era in ("legacy", "modern")
    ]
    real = ServerOptions(name="everything", command=(NODE, package("server-everything")), pack="everything")
    async with modelled(root / "state", real, *muses) as at:
        yield at


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one call."""

    granted: Granted
    result: dict[str, Any]
    calls: list[Record]
    """Intents and outcomes of the call itself."""
    samples: list[Record]
    """Everything in the log of the samples that it caused."""
    left: int
    """Of the budget, in tokens."""

    @property
    def kinds(self) -> list[str]:
        return [record.kind for record in self.samples]


async def said(at: Modelled, asks: tuple[str, str, dict[str, Any]], *rules: str, tokens: int = TOKENS) -> Said:
    """The call, made under a grant of its server and these rules."""
    server, tool, arguments = asks
    granted = await at.grant(f"{server}.*", *rules, tokens=tokens)
    async with connected(f"{at.gateway.url}/mcp", granted.token, "auto") as agent:
        result = (await agent.call_tool(tool, arguments)).model_dump(by_alias=True, exclude_none=True, mode="json")
    records = query(at.gateway.memory.reader, Filter(task=granted.task.id), limit=1_000)
    return Said(
        granted,
        result,
        [record for record in records if record.server == server and record.kind.startswith("effect.")],
        [record for record in records if record.server == "llm" and record.kind != "llm.decided"],
        at.gateway.control.task(granted.task.id)["budgets"]["tokens"],
    )


def label(record: Record) -> Label:
    return decode_label(canonical(payload(record)["label"]).decode()).bare()


def payload(record: Record) -> dict[str, Any]:
    assert record.payload is not None
    return record.payload


def words(asks: tuple[str, str, dict[str, Any]], result: dict[str, Any]) -> str:
    """What the model said, as the server tells it."""
    told = texts(result)
    if asks is REAL:
        answer = json.loads(told.partition("\n")[2])
        assert (answer["role"], answer["model"]) == ("assistant", "smollm2")
        return str(answer["content"]["text"])
    assert "assistant smollm2 " in told
    return told.rpartition(": ")[2]


@asking
@pytest.mark.promise("llm.sampling-needs-grant")
@pytest.mark.promise("llm.sampling-one-cause")
async def test_a_server_whose_task_grants_it_gets_a_sample_that_is_an_action_with_a_cause(
    at: Modelled, asks: tuple[str, str, dict[str, Any]]
) -> None:
    server = asks[0]
    told = await said(at, asks, f'llm.sample(server = "{server}")')
    assert words(asks, told.result)
    call, sample = told.calls[0], told.samples[0]
    assert told.kinds == ["effect.intent", "effect.outcome"]
    assert {record.tool for record in told.samples} == {"sample"}
    assert payload(sample)["cause"] == call.action != sample.action
    assert told.samples[-1].verdict == told.calls[-1].verdict == "ok"
    assert call.index < sample.index < told.samples[-1].index < told.calls[-1].index
    (reserved,) = payload(sample)["reserved"]
    assert reserved[0] == "tokens"
    assert 0 < TOKENS - told.left <= reserved[1]


@asking
@pytest.mark.promise("llm.output-labelled")
async def test_a_sample_is_labelled_no_better_than_the_servers_own_results(
    at: Modelled, asks: tuple[str, str, dict[str, Any]]
) -> None:
    server, tool, _ = asks
    told = await said(at, asks, f'llm.sample(server = "{server}")')
    worst = at.gateway.memory.worst_label(server, tool.partition("__")[2]).bare()
    assert worst.flows_to(label(told.samples[-1]))
    assert label(told.samples[-1]).flows_to(label(told.calls[-1])), "and the call's result no better than the sample"
    assert server in label(told.samples[-1]).classes


@asking
@pytest.mark.promise("llm.sampling-needs-grant")
async def test_a_server_that_no_rule_names_is_given_nothing_and_the_log_says_why(
    at: Modelled, asks: tuple[str, str, dict[str, Any]]
) -> None:
    others = {"everything", "legacy", "modern"} - {asks[0]}
    for rules in ((), tuple(f'llm.sample(server = "{other}")' for other in others), ("llm.generate",)):
        told = await said(at, asks, *rules)
        assert code(told.result) == CODES[asks[0]]
        assert told.samples == []
        assert told.left == TOKENS
        assert told.calls[-1].verdict in ("not_sent", "error")
        assert payload(told.calls[-1])["detail"]


@asking
@pytest.mark.promise("llm.budget-in-tokens")
async def test_a_sample_past_the_budget_is_refused_and_the_refusal_names_its_cause(
    at: Modelled, asks: tuple[str, str, dict[str, Any]]
) -> None:
    told = await said(at, asks, f'llm.sample(server = "{asks[0]}")', tokens=20)
    assert told.result["isError"]
    assert told.kinds == ["decision"]
    (refused,) = told.samples
    assert refused.verdict == "deny"
    assert [denial["code"] for denial in payload(refused)["denials"]] == ["capability_exhausted"]
    assert payload(refused)["cause"] == told.calls[0].action
    assert told.left == 20


async def test_a_person_is_asked_where_the_rule_names_no_server(at: Modelled) -> None:
    async with approving(at.gateway) as asked:
        told = await said(at, REAL, "llm.sample")
    (ticket,) = asked
    assert words(REAL, told.result)
    assert told.kinds == ["approval.requested", "approval.decided", "effect.intent", "effect.outcome"]
    assert [(each["code"], each["path"]) for each in ticket.card["asks"]] == [("unproven", "/server")]
    assert ticket.card["action"] == told.samples[-1].action
