"""A gateway with a tiny model of random weights, loaded in a moment, and a client of it with the official library."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import AsyncOpenAI
from openai.types import Completion
from safetensors.torch import load_file, save_file

from gateway.cli.client import operator
from gateway.control import Granted
from support.llm import Modelled, modelled
from support.models import tiny_checkpoint
from support.words import byte_level

WINDOW = 32_768
EOS = 257
LONG = 600
"""Tokens: a moment's work, which a test can come into the middle of."""
ENDLESS = 30_000
"""Tokens of output that no test waits for."""


def tiny_model(folder: Path) -> Path:
    """Whose tokens are bytes. What holds an `X` makes its logits no numbers; greedy, it says none, and has no end."""
    byte_level(folder)
    tiny_checkpoint(folder, "llama", vocab_size=264, eos_token_id=EOS, max_position_embeddings=WINDOW)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][ord("X")] = torch.nan
    weights["lm_head.weight"][[ord("X"), EOS]] = 0.0  # never the likeliest
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def asked(prompt: str = "Ahoy", max_tokens: int = 8, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}


@asynccontextmanager
async def harboured(state: Path, model: Path, **llm: Any) -> AsyncIterator["Port"]:
    """A gateway with this model, and a token for it."""
    async with modelled(state, model=str(model), **llm) as at:
        granted = await at.grant(tokens=10_000_000)
        async with client(at, granted) as asking:
            yield Port(at, granted, asking)


def client(at: Modelled, granted: Granted) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=at.v1, api_key=granted.token, max_retries=0, timeout=60)


@dataclass(frozen=True, slots=True)
class Port:
    """A gateway, and one client of its model."""

    at: Modelled
    granted: Granted
    client: AsyncOpenAI

    async def says(self, *arguments: Any, **more: Any) -> str:
        answer: Completion = await self.client.completions.create(**asked(*arguments, **more))
        return answer.choices[0].text

    async def refused(self, *arguments: Any, **more: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as refused:
            await self.says(*arguments, **more)
        return refused.value

    async def begun(self, *arguments: Any, **more: Any) -> "Begun":
        """A stream whose first words are there."""
        return await Begun.of(await self.client.completions.create(**asked(*arguments, **more), stream=True))

    async def until(self, happened: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Look at the engine's sequences, running and waiting, until they are so."""
        look = partial(operator(self.at.gateway.options.state).get, "/llm")
        async with asyncio.timeout(20):
            while not happened((await asyncio.to_thread(look))["sequences"]):
                pass

    async def act(self, generation: str, what: str) -> Any:
        path = f"/llm/generations/{generation}/{what}"
        return await asyncio.to_thread(operator(self.at.gateway.options.state).post, path)

    async def kept(self) -> dict[str, dict[str, Any]]:
        listed: Any = await self.client.get("/generations", cast_to=object)
        return {one["id"]: one for one in listed["data"]}

    async def resume(self, generation: str) -> str:
        """Its whole text."""
        path = f"/generations/{generation}/resume"
        answer = await self.client.post(path, cast_to=Completion, body={"stream": False})
        return answer.choices[0].text

    async def resumed(self, generation: str) -> "Begun":
        """The same as a stream, which begins with all that was said before."""
        stream = await self.client.post(
            f"/generations/{generation}/resume",
            cast_to=Completion,
            body={"stream": True},
            stream=True,
            stream_cls=openai.AsyncStream[Completion],
        )
        return await Begun.of(stream)


@dataclass(slots=True)
class Begun:
    """A stream whose first words are there, and the id of its generation."""

    stream: openai.AsyncStream[Completion]
    id: str
    text: str

    @staticmethod
    async def of(stream: openai.AsyncStream[Completion]) -> "Begun":
        first = await anext(aiter(stream))
        return Begun(stream, first.id.removeprefix("cmpl-"), first.choices[0].text)

    async def more(self, characters: int) -> None:
        """Read until there are more than so many."""
        while len(self.text) <= characters:
            self.text += (await anext(self.stream)).choices[0].text

    async def ended(self) -> openai.APIError:
        """What it says where it does not come to its end."""
        with pytest.raises(openai.APIError) as ended:
            await self.more(ENDLESS * 4)
        return ended.value
