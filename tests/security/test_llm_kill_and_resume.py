"""`pratique serve` is killed in the middle of twenty generations of SmolLM2; started again, it goes on with each.

What an owner gets in the end is what a run without the kill says, token for token; and the kill gave nobody anything:
no budget came back, no stranger's and no revoked task's token finds what was kept.
"""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Completion
from support.llm import CACHE
from support.scene import until

from gateway.cli.client import Operator, operator

PRATIQUE = str(Path(sys.executable).with_name("pratique"))
OWNERS, EACH = 4, 5
LENGTH = 40
"""Tokens of output of each sample."""
KILLED_AT = 9
"""Tokens that the first sample of each generation has said when the process is killed, at least."""
BUDGET = 20_000
SUBJECTS = ("bicycle", "harbour", "compass", "lighthouse", "quarantine")


@dataclass(frozen=True, slots=True)
class Home:
    """The settings and the state of one gateway, which may have several lives."""

    root: Path
    port: int

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def operator(self) -> Operator:
        return operator(self.state)

    def client(self, token: str) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=token, max_retries=0, timeout=120)

    @asynccontextmanager
    async def living(self) -> AsyncIterator[Process]:
        """The process, its model loaded."""
        command = (PRATIQUE, "serve", "--config", str(self.root / "pratique.toml"), "--state", str(self.state))
        env = {"PATH": os.environ["PATH"], "HOME": str(self.root), "XDG_CACHE_HOME": str(self.root / "cache")}
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE, stderr=DEVNULL)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert (await process.stdout.readline()).startswith(b"agents: ")
            await until(self._has_settled, within_s=120)
            (model,) = self.operator.get("/llm/models")["models"]
            assert model["status"] == "ready", model
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def grant(self, agent: str) -> "Owner":
        body = {"text": "Write.", "allow": ["llm.generate"], "tokens": BUDGET, "agent": agent}
        granted = self.operator.post("/tasks", body)
        return Owner(self, granted["task"], granted["token"])

    def _has_settled(self) -> bool:
        (model,) = self.operator.get("/llm/models")["models"]
        return not model["status"].startswith("loading")


@dataclass(frozen=True, slots=True)
class Owner:
    """One task and its token."""

    home: Home
    task: str
    token: str

    @property
    def left(self) -> int:
        """Of its budget, in tokens."""
        left: int = self.home.operator.get(f"/tasks/{self.task}")["budgets"]["tokens"]
        return left

    async def kept(self) -> dict[str, dict[str, Any]]:
        """Its generations of which something is kept, by id."""
        async with self.home.client(self.token) as model:
            listed: Any = await model.get("/generations", cast_to=object)
        return {one["id"]: one for one in listed["data"]}

    async def resume(self, generation: str) -> "Told":
        """The generation's end, and all that came before it."""
        path = f"/generations/{generation}/resume"
        async with self.home.client(self.token) as model:
            whole = await model.post(path, cast_to=Completion, body={"stream": False})
        told = Told(self, {}, generation, whole.usage)
        told.hear(whole)
        return told


@dataclass(slots=True)
class Told:
    """One generation as its client has it."""

    owner: Owner
    asked: dict[str, Any]
    id: str = ""
    usage: Any = None
    said: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    """Text and tokens by sample."""
    is_far: asyncio.Event = field(default_factory=asyncio.Event)
    was_cut: bool = False

    @property
    def samples(self) -> int:
        n: int = self.asked["n"]
        return n

    def hear(self, chunk: Completion) -> None:
        for choice in chunk.choices:
            text, tokens = self.said.get(choice.index, ("", []))
            fresh = (choice.logprobs and choice.logprobs.tokens) or []
            self.said[choice.index] = (text + choice.text, tokens + fresh)

    async def stream(self) -> "Told":
        """To its end, or to the gateway's."""
        try:
            async with self.owner.home.client(self.owner.token) as model:
                async for chunk in await model.completions.create(
                    **self.asked, stream=True, stream_options={"include_usage": True}
                ):
                    self.id = chunk.id.removeprefix("cmpl-")
                    self.usage = chunk.usage or self.usage
                    self.hear(chunk)
                    if len(self.said.get(0, ("", []))[1]) >= KILLED_AT:
                        self.is_far.set()
        except (openai.APIConnectionError, httpx.HTTPError):
            self.was_cut = True
        self.is_far.set()
        return self


def asked(number: int) -> dict[str, Any]:
    """Greedy and drawn, one sample and two, in every combination."""
    return {
        "model": "smollm2",
        "prompt": f"Chapter {number}. The history of the {SUBJECTS[number % len(SUBJECTS)]} begins",
        "max_tokens": LENGTH,
        "n": 1 + number % 2,
        "temperature": 0.8 * (number // 2 % 2),
        "seed": number,
        "logprobs": 0,
    }


def settled_in(root: Path) -> Home:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        home = Home(root, free.getsockname()[1])
    (root / "pratique.toml").write_text(
        f"""
        [gateway]
        listen = "127.0.0.1:{home.port}"
        [llm]
        kv_memory_mb = 256
        threads = 1
        checkpoint_tokens = 4
        """
    )
    (root / "cache").mkdir()
    (root / "cache" / "pratique").symlink_to(CACHE)  # the model as other tests have converted it
    return home


@pytest.mark.promise("llm.crash-resume")
@pytest.mark.promise("llm.resume-owned")
async def test_twenty_generations_outlive_a_killed_gateway_token_for_token_and_for_their_owners_alone(
    tmp_path: Path,
) -> None:
    home = settled_in(tmp_path)
    async with home.living() as process:
        owners = [home.grant(f"owner-{number}") for number in range(OWNERS)]
        revoked = home.grant("revoked")
        whole = await asyncio.gather(*(told.stream() for told in everyone(owners)))
        before = [owner.left for owner in owners]

        running = [*everyone(owners), Told(revoked, asked(len(whole)))]
        streams = [asyncio.create_task(told.stream()) for told in running]
        await asyncio.gather(*(told.is_far.wait() for told in running))
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*streams)
    *cut, lost = running
    assert all(told.was_cut for told in running), "it was killed in the middle of every one of them"

    async with home.living():
        after = [owner.left for owner in owners]
        kept = [await owner.kept() for owner in owners]
        assert [set(each) for each in kept] == [{told.id for told in cut if told.owner is one} for one in owners]
        assert all(0 < one["tokens"] < 2 * LENGTH for each in kept for one in each.values())
        await refused_to_others(cut[0], owners[1], lost)

        resumed = await asyncio.gather(*(told.owner.resume(told.id) for told in cut))
        paid = [one - owner.left for one, owner in zip(after, owners, strict=True)]
        assert [await owner.kept() for owner in owners] == [{}] * OWNERS

    assert [told.said for told in resumed] == [told.said for told in whole]
    for told, again in zip(cut, resumed, strict=True):
        for index, (text, tokens) in told.said.items():
            assert again.said[index][0].startswith(text), "what its client had read before the kill is how it begins"
            assert again.said[index][1][: len(tokens)] == tokens
    for place, owner in enumerate(owners):
        mine = [told for told in whole if told.owner is owner]
        reserved = sum(told.usage.prompt_tokens + LENGTH * told.samples for told in mine)
        assert before[place] - after[place] == reserved, "what was taken for them stays taken"
        spoken = sum(told.usage.completion_tokens for told in mine)
        assert paid[place] == spoken - sum(one["tokens"] for one in kept[place].values())


def everyone(owners: list[Owner]) -> list[Told]:
    """Five generations for each of them, asked for all over again."""
    return [Told(owners[number % OWNERS], asked(number)) for number in range(OWNERS * EACH)]


async def refused_to_others(told: Told, stranger: Owner, lost: Told) -> None:
    """Another owner's token finds nothing under the id, and a revoked task's token finds nobody at all."""
    with pytest.raises(openai.NotFoundError) as unknown:
        await stranger.resume(told.id)
    assert unknown.value.code == "generation_not_found"
    lost.owner.home.operator.post("/tokens/revoke", {"what": lost.owner.task})
    with pytest.raises(openai.AuthenticationError):
        await lost.owner.resume(lost.id)
    with pytest.raises(openai.NotFoundError):
        await stranger.resume(lost.id)
