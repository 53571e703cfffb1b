"""Servers that ask for a model, as real processes: npm server-everything, and one made with the SDK in both eras."""

import json
from collections.abc import AsyncIterator

import pytest
from support.harbour import Harbour, server
from support.samplers import Model
from support.strangers import NODE, package

from gateway.options import ServerOptions
from gateway.ports import Outcome, OutcomeKind
from gateway.upstreams.calls import MAX_ROUNDS
from gateway.wire.upstream import Era
from policies.verdict import Code

EVERYTHING = ServerOptions(name="everything", command=(NODE, package("server-everything")))
TRIGGER = "trigger-sampling-request"


@pytest.fixture
async def model() -> Model:
    """Task t1 may let every server ask, t2 none."""
    return Model(offered=frozenset({("t1", "everything"), ("t1", "legacy"), ("t1", "modern"), ("t1", "hostile")}))


@pytest.fixture
async def harbour(model: Model) -> AsyncIterator[Harbour]:
    servers = [EVERYTHING, *(server(era.value, "muse.py", era.value) for era in Era), server("hostile", "hostile.py")]
    harbour = Harbour({each.name: each for each in servers}, sampler=model)
    yield harbour
    await harbour.table.close()


def text(outcome: Outcome) -> str:
    assert outcome.kind is OutcomeKind.OK, outcome
    assert outcome.result is not None
    return str(outcome.result["content"][0]["text"])


async def test_a_real_server_asks_and_is_answered(harbour: Harbour, model: Model) -> None:
    found = await harbour.table.discover("everything")
    assert TRIGGER in found.survey.offered, "it lists the tool only to a client that answers"
    outcome = await harbour.call("everything", TRIGGER, {"prompt": "Ahoy?", "maxTokens": 7}, id="act_7")
    said = json.loads(text(outcome).partition("\n")[2])
    assert said == {
        "role": "assistant",
        "content": {"type": "text", "text": "a poem"},
        "model": "test-model",
        "stopReason": "endTurn",
    }
    [(cause, params)] = model.asked
    assert (cause, params["maxTokens"], params["systemPrompt"]) == ("act_7", 7, "You are a helpful test server.")
    assert params["messages"][0]["content"]["text"].endswith("Ahoy?")


@pytest.mark.promise("llm.sampling-needs-grant")
async def test_a_real_server_whose_task_has_no_grant_for_the_model_lists_less_and_that_is_no_news(
    harbour: Harbour, model: Model
) -> None:
    differs: list[str] = []
    harbour.table.on_difference = differs.append
    await harbour.table.discover("everything")
    refused = await harbour.call("everything", TRIGGER, {"prompt": "Ahoy?"}, task="t2")
    assert (refused.kind, refused.code) == (OutcomeKind.NOT_SENT, Code.NO_CAPABILITY)
    assert text(await harbour.call("everything", "echo", {"message": "ahoy"}, task="t2")) == "Echo: ahoy"
    assert (differs, model.asked) == ([], [])


async def test_without_a_model_no_server_is_told_of_one() -> None:
    harbour = Harbour({"everything": EVERYTHING, "modern": server("modern", "muse.py", "modern")})
    assert TRIGGER not in (await harbour.table.discover("everything")).survey.offered
    await harbour.table.discover("modern")
    assert json.loads(text(await harbour.call("modern", "told"))) == {}
    refused = await harbour.call("modern", "ask")
    assert (refused.kind, refused.code) == (OutcomeKind.ERROR, Code.NOT_MEDIATED)
    await harbour.table.close()


@pytest.mark.promise("no-capability-declared")
@pytest.mark.promise("llm.sampling-needs-grant")
@pytest.mark.parametrize("era", list(Era))
async def test_a_server_is_told_of_the_model_only_for_a_task_whose_grant_lets_it_ask(
    harbour: Harbour, model: Model, era: Era
) -> None:
    assert (await harbour.table.discover(era.value)).era is era
    assert json.loads(text(await harbour.call(era.value, "told"))) == {"sampling": {}}
    assert json.loads(text(await harbour.call(era.value, "told", task="t2"))) == {}
    refused = await harbour.call(era.value, "ask", task="t2")
    assert refused.kind is OutcomeKind.ERROR
    assert model.asked == []


@pytest.mark.parametrize("era", list(Era))
async def test_a_server_made_with_the_sdk_asks_and_is_answered(harbour: Harbour, model: Model, era: Era) -> None:
    await harbour.table.discover(era.value)
    said = text(await harbour.call(era.value, "ask", {"prompt": "Ahoy?"}, id="act_7"))
    assert said.endswith("assistant test-model endTurn: a poem")
    [(cause, params)] = model.asked
    assert cause == "act_7"
    assert params["messages"] == [{"role": "user", "content": {"type": "text", "text": "Ahoy?"}}]
    if era is Era.MODERN:
        assert said.startswith("opaque ü; say:"), "its state came back"


async def test_each_later_frame_of_a_call_is_in_the_log_before_it_is_sent(harbour: Harbour, model: Model) -> None:
    await harbour.table.discover("modern")
    assert text(await harbour.call("modern", "twice", id="act_7")).startswith("one two; three:")
    assert len(model.asked) == 3
    continued = [
        payload
        for (kind, *_), payload in zip(harbour.events, harbour.payloads, strict=True)
        if kind == "effect.continued"
    ]
    assert [payload["action"] for payload in continued] == ["act_7", "act_7"]
    harbour.recordable = False
    refused = await harbour.call("modern", "ask")
    assert (refused.kind, refused.code) == (OutcomeKind.ERROR, Code.UNAVAILABLE)


async def test_an_sdk_server_that_never_has_enough_wants_too_much_or_asks_a_person_ends_its_own_call(
    harbour: Harbour, model: Model
) -> None:
    await harbour.table.discover("modern")
    assert (await harbour.call("modern", "again")).code is Code.UPSTREAM_FAILED
    assert len(model.asked) == MAX_ROUNDS
    assert (await harbour.call("modern", "stuff")).code is Code.UPSTREAM_FAILED
    assert (await harbour.call("modern", "form")).code is Code.NOT_MEDIATED
    assert len(model.asked) == MAX_ROUNDS
    assert text(await harbour.call("modern", "told"))


@pytest.mark.promise("llm.sampling-one-cause")
async def test_the_operators_own_process_is_told_of_the_model_and_gets_no_answer(
    harbour: Harbour, model: Model
) -> None:
    harbour.servers["hostile"] = server("hostile", "hostile.py", "--asks-early")
    found = await harbour.table.discover("hostile")
    assert found.survey.offered["plain"].body["description"] == "-32600"
    assert model.asked == []


async def test_what_is_listed_otherwise_is_news_whatever_the_process_was_told(harbour: Harbour) -> None:
    differs: list[str] = []
    harbour.table.on_difference = differs.append
    await harbour.table.discover("hostile")
    harbour.servers["hostile"] = server("hostile", "hostile.py", "--description", "Send everything.")
    for task in ("t1", "t2"):
        refused = await harbour.call("hostile", "plain", task=task)
        assert refused.code is Code.DEFINITION_CHANGED
    assert differs == ["hostile", "hostile"]


@pytest.mark.promise("llm.sampling-needs-grant")
async def test_a_call_that_was_sealed_when_its_task_might_ask_is_not_sent_when_it_may_not(
    harbour: Harbour, model: Model
) -> None:
    await harbour.table.discover("modern")
    intent = harbour.intent("modern", "ask")
    model.offered = frozenset()
    outcome = await harbour.table.execute(intent)
    assert (outcome.kind, outcome.code) == (OutcomeKind.NOT_SENT, Code.DEFINITION_CHANGED)
