"""The real engine and the real runner, on a tiny fp64 model: however requests run, they say the same."""

from functools import cache
from typing import Any

import pytest
import torch
from support.attention_batches import pairwise
from support.llm_fakes import Listener, run_out
from support.models import alone, continued

from llmcore.engine import Engine
from llmcore.engine_config import EngineConfig
from llmcore.ordering.fifo import Fifo
from llmcore.request import Request, Sampling
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models.shapes import TINY

torch.set_num_threads(1)

BLOCK = 4
AXES = {
    "batching": (1, 8),
    "chunking": (True, False),
    "sharing": (True, False),
    "memory": ("ample", "scarce"),
    "preemption": ("recompute", "swap"),
    "resume": (False, True),
}
SHARED = tuple(range(60, 82))
GREEDY, SEEDED = (
    Sampling(temperature=0.0, ignore_eos=True),
    Sampling(temperature=0.9, top_p=0.9, seed=5, ignore_eos=True),
)


@cache
def runner(num_blocks: int, host_blocks: int) -> ModelRunner:
    return ModelRunner.random(
        TINY, num_blocks=num_blocks, host_blocks=host_blocks, block_size=BLOCK, dtype="float64", seed=3
    )


def requests() -> list[Request]:
    """Half of them begin alike; greedy and seeded in turn."""
    prompts = [(*SHARED, *range(n, 2 * n)) if n % 2 else tuple(range(n, 5 * n)) for n in range(3, 9)]
    return [
        Request(
            id=f"r{n}",
            tenant="t",
            domain="d",
            prompt=prompt,
            max_tokens=12 + n,
            sampling=GREEDY if n % 3 else SEEDED,
        )
        for n, prompt in enumerate(prompts)
    ]


@cache
def expected() -> dict[str, list[int]]:
    """Each by itself, in blocks of its own."""
    said = {}
    for request in requests():
        sequence = alone(request.prompt, blocks=range(40), max_tokens=request.max_tokens)
        sequence.request = request
        said[request.id] = continued(runner(40, 0), sequence)
    return said


def engine(*, batching: int, chunking: bool, sharing: bool, memory: str, preemption: str) -> Engine:
    model = runner(120 if memory == "ample" else 24, 16)
    config = EngineConfig(
        num_blocks=model.num_blocks,
        host_blocks=model.host_blocks,
        block_size=BLOCK,
        max_running=batching,
        max_step_tokens=max(10, batching),
        chunked=chunking,
        prefix_cache=sharing,
        preemption=preemption,  # type: ignore[arg-type]
    )
    ticks = iter(range(10**9))
    return Engine(model, config=config, ordering=Fifo(), clock=lambda: float(next(ticks)))


@pytest.mark.parametrize("case", pairwise(AXES), ids=lambda case: "-".join(str(value) for value in case.values()))
def test_however_requests_run_they_say_the_same(case: dict[str, Any]) -> None:
    settings = {name: value for name, value in case.items() if name != "resume"}
    running, listener, said = engine(**settings), Listener(), {}
    for request in requests():
        assert running.submit(request) is None
    if case["resume"]:
        for _ in range(9):
            listener.hear(running.step())
        said = listener.outputs()
        running, listener = _moved(running, engine(**settings)), Listener()  # what is restored says all of it again

    said = said | run_out(running, listener).outputs()

    assert {id: samples[0] for id, samples in said.items()} == expected()


def test_scarce_memory_does_preempt() -> None:
    """Or the cover above would say nothing about it."""
    running = engine(batching=8, chunking=True, sharing=False, memory="scarce", preemption="swap")
    for request in requests():
        running.submit(request)
    run_out(running)

    assert "preempted" in {decision.kind for decision in running.decisions()}


@pytest.mark.parametrize("length", [20, 21])
def test_four_samples_of_one_prompt_equal_four_runs(length: int) -> None:
    """Whether the prompt ends with a block or within one."""
    prompt = tuple(range(100, 100 + length))
    sampling = Sampling(temperature=1.0, seed=11, ignore_eos=True)
    running = engine(batching=8, chunking=True, sharing=True, memory="ample", preemption="swap")
    running.submit(Request(id="four", tenant="t", domain="d", prompt=prompt, max_tokens=15, n=4, sampling=sampling))

    together = run_out(running).outputs()["four"]

    apart = {
        index: continued(
            runner(40, 0),
            alone(prompt, blocks=range(40), max_tokens=15, index=index, temperature=1.0, seed=11),
        )
        for index in range(4)
    }
    assert together == apart
    assert len({tuple(tokens) for tokens in together.values()}) == 4


def test_a_sequence_of_no_numbers_fails_alone_and_leaves_nothing_in_the_cache_that_harms_the_next() -> None:
    model = ModelRunner.random(TINY, num_blocks=40, block_size=BLOCK, dtype="float64", seed=3)
    poisoned = 200
    model.model.embedding.weight.data[poisoned] = float("nan")
    head = torch.nn.Linear(TINY.hidden, TINY.vocabulary, bias=False, dtype=torch.float64)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    model.model.head = head.requires_grad_(False)  # of its own: the embedding is no longer sound
    config = EngineConfig(num_blocks=40, block_size=BLOCK, max_running=4, prefix_cache=False)
    ticks = iter(range(10**9))
    running = Engine(model, config=config, ordering=Fifo(), clock=lambda: float(next(ticks)))

    def ask(id: str, prompt: tuple[int, ...]) -> None:
        running.submit(Request(id=id, tenant="t", domain="d", prompt=prompt, max_tokens=5, sampling=GREEDY))

    ask("sick", (1, 2, poisoned, 4, 5, 6, 7))
    ask("well", (1, 2, 3, 4, 5, 6, 7))
    first = run_out(running)
    for n in range(8):
        ask(f"later-{n}", (1, 2, 3, 4, 5, 6, 7))
    second = run_out(running)

    assert first.said["sick"].finish[0] == "failed"
    assert all(said.tokens == first.said["well"].tokens for said in second.said.values())


def _moved(old: Engine, new: Engine) -> Engine:
    """Every request of one engine goes on in another."""
    for request in requests():
        saved = old.take(request.id)
        if saved is not None:
            assert new.restore(request, saved) is None
    return new
