"""What a model cannot take, or cannot do: the official client is told with a status of its own; all else goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from support.llm import CACHE, Modelled, modelled
from support.tiny_llm import ENDLESS, LONG, WINDOW, Port, client, harboured, tiny_model

from gateway.bootstrap import running
from gateway.cli.client import operator
from gateway.errors import OperatorError
from gateway.options import LlmOptions, Options
from gateway.settings import SHIPPED

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncIterator[Port]:
    async with harboured(tmp_path_factory.mktemp("state"), folder, kv_memory_mb=4, queue=4) as port:
        yield port


async def test_a_prompt_over_the_window_is_told_its_counts(port: Port) -> None:
    for prompt_tokens, room in ((WINDOW + 10, 0), (WINDOW - 10, 10)):
        refused = await port.refused("a" * prompt_tokens, max_tokens=20)
        assert (refused.status_code, refused.code) == (400, "context_length_exceeded")
        for count in (f"is {WINDOW} tokens", f"has {prompt_tokens}", "for 20 more", f"at most {room}"):
            assert count in refused.message


@pytest.mark.promise("llm.refused-recorded")
async def test_what_the_model_cannot_take_is_decided_and_on_record_all_the_same(port: Port) -> None:
    await port.refused("a" * (WINDOW + 10), max_tokens=20)
    record = port.at.events("decision")[-1]
    assert (record.tool, record.verdict) == ("generate", "deny")
    assert str(WINDOW + 10) in str(record.payload)

    stranger = await port.at.grant("llm.sample")
    async with client(port.at, stranger) as asking:
        over_schema = {"stop": ["x" * 1_001]}  # is refused before anybody looks at the grant
        for more, code in (({}, "no_capability"), (over_schema, "arguments_invalid")):
            with pytest.raises(openai.APIStatusError) as refused:
                await asking.completions.create(model="tiny", prompt="a" * (WINDOW + 10), max_tokens=20, **more)
            assert refused.value.code == code
            assert str(WINDOW) not in refused.value.message, "whoever may not ask is not told what the model takes"


async def test_what_the_model_cannot_take_leaves_no_more_than_any_refusal(port: Port) -> None:
    before = len(port.at.events("effect.intent"))
    await port.refused("a" * (WINDOW + 10), max_tokens=20)
    assert len(port.at.events("effect.intent")) == before, "nothing of it is written whole"


@pytest.mark.parametrize("max_tokens", [0, -1])
async def test_a_bound_that_is_no_count_is_named(port: Port, max_tokens: int) -> None:
    refused = await port.refused(max_tokens=max_tokens)
    assert (refused.status_code, refused.param) == (400, "max_tokens")


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 1}, "minimum"),
        ({"type": "no such type"}, "no such type"),
        ({"type": "string", "pattern": "["}, "character class"),
        ({"$ref": "#/nowhere"}, "'/nowhere'"),
    ],
    ids=["impossible", "no type", "no pattern", "no reference"],
)
async def test_a_grammar_that_nothing_can_match_is_refused_and_the_next_request_runs(
    port: Port, schema: dict[str, Any], sentence: str
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "wanted", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as refused:
        await port.client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Ahoy"}],
            max_tokens=8,
            response_format=form,  # type: ignore[arg-type]
        )
    assert refused.value.code == "arguments_invalid"
    assert sentence in refused.value.message, "what is wrong with it is said"
    assert await port.says()


async def test_a_model_that_is_not_here_is_named_beside_the_one_that_is(port: Port) -> None:
    refused = await port.refused(model="tinny")
    assert (refused.status_code, refused.code) == (404, "model_not_found")
    assert "'tiny'" in refused.message


async def test_more_than_all_memory_is_refused_and_what_runs_goes_on(port: Port) -> None:
    running = await port.begun(max_tokens=60)
    refused = await port.refused(max_tokens=4_000, n=16)
    assert (refused.status_code, refused.code) == (400, "arguments_invalid")
    ends = [chunk.choices[0].finish_reason async for chunk in running.stream]
    assert ends[-1] == "length"


async def test_logits_that_are_no_numbers_fail_their_request_alone(port: Port) -> None:
    whole = await port.says(max_tokens=40)
    beside = asyncio.create_task(port.says(max_tokens=40))
    failed = await port.refused("Xebec")
    assert (failed.status_code, failed.code) == (502, "upstream_failed")
    for _ in range(3):  # in the blocks that it had
        assert await port.says(max_tokens=40) == whole
    assert await beside == whole
    outcome = port.at.events("effect.outcome")
    assert any("numbers" in (event.payload or {}).get("detail", "") for event in outcome)


async def test_what_finds_no_room_in_the_queue_is_told_to_come_back(port: Port) -> None:
    running = [await port.begun(f"Ahoy {number}", LONG, n=5) for number in range(2)]  # all the memory of one agent
    waiting = [asyncio.create_task(port.says(f"Wait {number}", LONG, n=5)) for number in range(2)]  # half of the queue
    await port.until(lambda sequences: len({one["request"] for one in sequences if one["state"] == "waiting"}) == 2)
    refused = await port.refused("One more")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for begun in running:
        await begun.stream.close()
    assert (refused.status_code, refused.code) == (429, "overloaded")
    assert refused.response.headers["x-should-retry"] == "true"
    await port.until(lambda sequences: not sequences)
    assert await port.says()


async def test_an_operator_suspends_a_generation_and_its_owner_goes_on_with_it(port: Port) -> None:
    whole = await port.says("Once", LONG)
    begun = await port.begun("Once", LONG)
    await port.act(begun.id, "suspend")
    told = await begun.ended()
    assert told.code == "suspended"
    assert f"/v1/generations/{begun.id}/resume" in told.message
    assert await port.resume(begun.id) == whole
    suspended = port.at.events("llm.suspended")[-1].payload
    assert suspended is not None
    assert suspended["generation"] == begun.id
    assert suspended["by"].startswith("control:")


async def test_what_an_operator_forgets_cannot_be_gone_on_with(port: Port) -> None:
    begun = await port.begun("Once", LONG)
    await port.act(begun.id, "suspend")
    await begun.ended()
    assert (await port.kept())[begun.id]["state"] == "suspended"
    await port.act(begun.id, "forget")
    assert begun.id not in await port.kept()
    with pytest.raises(openai.NotFoundError) as gone:
        await port.resume(begun.id)
    assert gone.value.code == "generation_not_found"
    for what in ("suspend", "forget"):
        with pytest.raises(OperatorError) as unknown:
            await port.act(begun.id, what)
        assert unknown.value.status == 404


async def test_a_gateway_that_stops_suspends_what_runs_and_the_next_goes_on_with_it(
    tmp_path: Path, folder: Path
) -> None:
    async with AsyncExitStack() as clients:
        async with modelled(tmp_path, model=str(folder), kv_memory_mb=512) as at:
            granted = await at.grant(tokens=10_000_000)
            port = Port(at, granted, await clients.enter_async_context(client(at, granted)))
            begun = [await port.begun(f"Once {number}", ENDLESS) for number in range(5)]
            endings = [asyncio.create_task(one.ended()) for one in begun]
        assert {ending.code for ending in await asyncio.gather(*endings)} == {"suspended"}
    async with modelled(tmp_path, model=str(folder), kv_memory_mb=512) as at, client(at, granted) as asking:
        port = Port(at, granted, asking)
        assert (await port.kept()).keys() == {one.id for one in begun}
        resumed = [await port.resumed(one.id) for one in begun]
        for one, again in zip(begun, resumed, strict=True):
            await again.more(len(one.text))
            assert again.text.startswith(one.text)
            await again.stream.close()


@pytest.mark.parametrize("kind", ["path", "name", "gguf"])
async def test_a_model_that_cannot_be_loaded_is_said_with_what_to_do(tmp_path: Path, folder: Path, kind: str) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0" + bytes(64))
    model, sentence = {
        "path": (str(folder.with_name("tinny")), f"did you mean {folder}?"),
        "name": ("smollm", "did you mean smollm2?"),
        "gguf": (str(broken), "broken.gguf"),
    }[kind]
    options = Options(
        state=tmp_path / "state", port=0, sandboxes=SHIPPED, llm=LlmOptions(model=model, threads=1, cache=CACHE)
    )
    async with running(options) as gateway:
        at = Modelled(gateway)
        assert gateway.mounted is not None
        await gateway.mounted.model.settled.wait()
        (document,) = (await asyncio.to_thread(operator(options.state).get, "/llm/models"))["models"]
        async with client(at, await at.grant()) as asking:
            with pytest.raises(openai.APIStatusError) as refused:
                await asking.completions.create(model=gateway.mounted.model.name, prompt="Ahoy", max_tokens=4)

    assert document["status"].startswith("failed: ")
    assert sentence in document["status"]
    assert refused.value.status_code == 503
    assert refused.value.code == "model_failed"
    assert refused.value.response.headers["x-should-retry"] == "false", "it does not mend itself"
    assert sentence in refused.value.message
