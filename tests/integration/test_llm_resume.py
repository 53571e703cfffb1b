"""A model's process is killed in the middle of twenty generations; another goes on with them from their checkpoints."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import torch
from support.models import tiny_checkpoint
from support.words import byte_level

from llmcore.client import Client, Generation
from llmcore.errors import EngineStopped
from llmcore.hosts.config import HostConfig
from llmcore.hosts.process import ProcessHost
from llmcore.messages import Checkpoint, Done, Suspended
from llmcore.request import Request, Sampling
from llmcore.snapshot import decode_snapshot
from llmcore.snapshot_store import SnapshotStore


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HostConfig:
    """A tiny Llama with fp64 weights and a tokenizer, as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    byte_level(folder)
    tiny_checkpoint(
        folder, "llama", dtype=torch.float64, vocab_size=264, eos_token_id=257, max_position_embeddings=1024
    )
    return HostConfig(
        model=str(folder),
        cache=str(folder.parent / "cache"),
        precision="float64",
        kv_memory_mb=8,
        host_memory_mb=1,
        checkpoint_tokens=4,
        max_step_tokens=64,
    )


def asked(number: int) -> Request:
    sampling = Sampling(temperature=0.8 * (number % 2), seed=number, logprobs=0, ignore_eos=number % 3 == 0)
    prompt = tuple((7 * number + 3 * n) % 256 for n in range(10 + number))
    return Request(
        id=f"act_{number}",
        tenant=f"t{number % 4}",
        domain=f"d{number % 4}",
        prompt=prompt,
        max_tokens=60,
        n=1 + number % 2,
        sampling=sampling,
        owner="ann",
    )


@pytest.mark.promise("llm.resume-identical")
async def test_generations_of_a_killed_process_go_on_in_another_token_for_token(
    model: HostConfig, tmp_path: Path
) -> None:
    wanted = [asked(number) for number in range(20)]
    whole = await uninterrupted(model, wanted)
    store = SnapshotStore(folder=tmp_path / "snapshots", key=b"k" * 32)

    def keep(checkpoint: Checkpoint | Suspended) -> None:
        store.save("ann", checkpoint.id, checkpoint.snapshot)

    host = ProcessHost(model)
    client = Client(host, on_checkpoint=keep)
    await client.start()
    generations = [client.generate(each) for each in wanted]
    for _ in range(20):
        await anext(generations[0])
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    ends = await asyncio.gather(*map(ended, generations), return_exceptions=True)
    cut = [each for each, end in zip(wanted, ends, strict=True) if isinstance(end, EngineStopped)]
    await client.stop()

    again = Client(ProcessHost(model))
    await again.start()
    resumed = [again.restore(each.id, store.load("ann", each.id), each) for each in cut]
    finished = {each.id: await ended(generation) for each, generation in zip(cut, resumed, strict=True)}
    await again.stop()

    assert len(cut) >= 15, "it was killed in the middle"
    assert any(decode_snapshot(store.load("ann", each.id)).output_tokens for each in cut)
    assert {id: said(done) for id, done in finished.items()} == {each.id: whole[each.id] for each in cut}


async def uninterrupted(model: HostConfig, wanted: list[Request]) -> dict[str, object]:
    """What each of them comes to, in a thread of this process."""
    client = Client.of(model, isolation="thread")
    await client.start()
    done = await asyncio.gather(*[ended(client.generate(each)) for each in wanted])
    await client.stop()
    return {each.id: said(each) for each in done}


async def ended(generation: Generation) -> Done:
    *_, last = [event async for event in generation]
    assert isinstance(last, Done), last
    return last


def said(done: Done) -> object:
    return [
        (choice.index, choice.text, choice.finish, [token.token for token in choice.tokens]) for choice in done.choices
    ]
