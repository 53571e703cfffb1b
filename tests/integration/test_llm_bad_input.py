"""What a model cannot take, or cannot do: said to the official client with a status of its own, and everything lives on.

The model is a tiny one with random weights; whatever holds the byte `X` makes its logits no numbers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
import torch
from openai import AsyncOpenAI
from openai.types import Completion
from safetensors.torch import load_file, save_file
from support.llm import CACHE, Modelled, modelled
from support.models import tiny_checkpoint
from support.scene import until
from support.words import byte_level

from gateway.bootstrap import running
from gateway.cli.client import operator
from gateway.control import Granted
from gateway.errors import OperatorError
from gateway.options import LlmOptions, Options
from gateway.settings import SHIPPED

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW = 1_024
LONG = 900
"""Tokens: seconds of work, of which no test waits for the end."""


def asked(prompt: str = "Ahoy", max_tokens: int = 8, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    byte_level(folder)
    tiny_checkpoint(folder, "llama", vocab_size=264, eos_token_id=257, max_position_embeddings=WINDOW)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][ord("X")] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@asynccontextmanager
async def harboured(state: Path, model: Path, **llm: Any) -> AsyncIterator["Port"]:
    """A gateway with this model, and a token for it."""
    async with modelled(state, model=str(model), kv_memory_mb=16, **llm) as at:
        granted = await at.grant(tokens=10_000_000)
        async with client(at, granted) as asking:
            yield Port(at, granted, asking)


def client(at: Modelled, granted: Granted) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=at.v1, api_key=granted.token, max_retries=0, timeout=60)


class Port:
    """A gateway, and one client of its model."""

    def __init__(self, at: Modelled, granted: Granted, client: AsyncOpenAI) -> None:
        self.at = at
        self.granted = granted
        self.client = client

    async def says(self, *arguments: Any, **more: Any) -> str:
        answer: Completion = await self.client.completions.create(**asked(*arguments, **more))
        return answer.choices[0].text

    async def refused(self, *arguments: Any, **more: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as refused:
            await self.says(*arguments, **more)
        return refused.value

    async def begun(self, *arguments: Any, **more: Any) -> "Begun":
        """A stream whose first words are there."""
        stream = await self.client.completions.create(**asked(*arguments, **more), stream=True)
        first = await anext(aiter(stream))
        return Begun(stream, first.id.removeprefix("cmpl-"))

    async def sequences(self) -> list[dict[str, Any]]:
        """Those of the engine, running and waiting."""
        seen = await asyncio.to_thread(operator(self.at.gateway.options.state).get, "/llm")
        found: list[dict[str, Any]] = seen["sequences"]
        return found

    async def act(self, generation: str, what: str) -> Any:
        path = f"/llm/generations/{generation}/{what}"
        return await asyncio.to_thread(operator(self.at.gateway.options.state).post, path)

    async def kept(self) -> dict[str, dict[str, Any]]:
        listed: Any = await self.client.get("/generations", cast_to=object)
        return {one["id"]: one for one in listed["data"]}

    async def resume(self, generation: str) -> str:
        path = f"/generations/{generation}/resume"
        answer = await self.client.post(path, cast_to=Completion, body={"stream": False})
        return answer.choices[0].text


class Begun:
    """A stream, and the id of its generation."""

    def __init__(self, stream: openai.AsyncStream[Completion], id: str) -> None:
        self.stream = stream
        self.id = id

    async def ended(self) -> openai.APIError:
        """What it says where it does not come to its end."""
        with pytest.raises(openai.APIError) as ended:
            async for _ in self.stream:
                pass
        return ended.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncIterator[Port]:
    async with harboured(tmp_path_factory.mktemp("state"), folder, queue=2) as port:
        yield port


async def test_a_prompt_over_the_window_is_told_its_counts(port: Port) -> None:
    refused = await port.refused("a" * 1_100)
    assert (refused.status_code, refused.code) == (400, "context_length_exceeded")
    assert "1024" in refused.message
    assert "1100" in refused.message
    refused = await port.refused("a" * 1_000, max_tokens=100)
    assert (refused.status_code, refused.code) == (400, "context_length_exceeded")
    assert "at most 24" in refused.message


@pytest.mark.parametrize("max_tokens", [0, -1])
async def test_a_bound_that_is_no_count_is_named(port: Port, max_tokens: int) -> None:
    refused = await port.refused(max_tokens=max_tokens)
    assert (refused.status_code, refused.param) == (400, "max_tokens")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"type": "no such type"},
        {"type": "string", "pattern": "["},
        {"$ref": "#/nowhere"},
    ],
    ids=["impossible", "no type", "no pattern", "no reference"],
)
async def test_a_grammar_that_nothing_can_match_is_refused_and_the_next_request_runs(
    port: Port, schema: dict[str, Any]
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
    assert await port.says()


async def test_a_model_that_is_not_here_is_named_beside_the_one_that_is(port: Port) -> None:
    refused = await port.refused(model="tinny")
    assert (refused.status_code, refused.code) == (404, "model_not_found")
    assert "'tiny'" in refused.message


async def test_more_than_all_memory_is_refused_and_what_runs_goes_on(port: Port) -> None:
    running = await port.begun(max_tokens=60)
    refused = await port.refused(max_tokens=LONG, n=16, beam_width=16, prompt="a" * 100)
    over = await port.refused(max_tokens=LONG, n=16)
    assert {refused.status_code, over.status_code} <= {400, 429}
    said = [chunk.choices[0].text async for chunk in running.stream if chunk.choices]
    assert said


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
    running = [await port.begun(f"Ahoy {number}", LONG // 2, n=16) for number in range(2)]
    waiting = [asyncio.create_task(port.says(f"Wait {number}", LONG // 2)) for number in range(2)]
    async with asyncio.timeout(20):
        while sum(one["state"] == "waiting" for one in await port.sequences()) < 2:
            await asyncio.sleep(0)
    refused = await port.refused("One more")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for begun in running:
        await begun.stream.close()
    assert (refused.status_code, refused.code) == (429, "overloaded")
    assert refused.response.headers["x-should-retry"] == "true"
    async with asyncio.timeout(20):
        while await port.sequences():
            await asyncio.sleep(0)
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
    prompts = [f"Once {number}" for number in range(5)]
    async with harboured(tmp_path, folder) as port:
        granted = port.granted
        whole = await asyncio.gather(*(port.says(prompt, LONG) for prompt in prompts))
        begun = await asyncio.gather(*(port.begun(prompt, LONG) for prompt in prompts))
        endings = [asyncio.create_task(one.ended()) for one in begun]
    told = await asyncio.gather(*endings)
    async with harboured(tmp_path, folder) as port, client(port.at, granted) as owner:
        again = Port(port.at, granted, owner)
        kept = await again.kept()
        assert kept.keys() == {one.id for one in begun}
        assert await asyncio.gather(*(again.resume(one.id) for one in begun)) == whole
        assert await again.kept() == {}
    assert {one.code for one in told} == {"suspended"}


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
    assert refused.value.code == "unavailable"
    assert sentence in refused.value.message
