"""S14 on a real model: fifty requests of SmolLM2, all but six of one tenant's, with fairness and without."""

import time
from collections.abc import Callable
from random import Random

import pytest
import torch
from support.llm import CACHE

from llmcore.engine import Engine, EngineConfig
from llmcore.events import Ended
from llmcore.ordering import Fifo, Ordering, Vtc
from llmcore.request import Finish, Request, Sampling
from llmcore.runner.model_runner import ModelRunner

NOISE, SMALL, TOKENS, OUTPUT = 44, 6, 44, 6
CONFIG = EngineConfig(num_blocks=13, max_running=8, max_step_tokens=128)
"""Four prompts take twelve blocks; with their last tokens each needs one more, and there is one."""


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    torch.set_num_threads(1)
    return ModelRunner.load("smollm2", cache_folder=CACHE, num_blocks=CONFIG.num_blocks, host_blocks=0)


def requests() -> list[Request]:
    """The small tenant comes last."""
    random = Random(14)
    tenants = ["noisy"] * NOISE + ["small"] * SMALL
    return [
        Request(
            id=f"{tenant}-{place}",
            tenant=tenant,
            domain=tenant,
            prompt=tuple(random.choices(range(1000, 40000), k=TOKENS)),
            max_tokens=OUTPUT,
            sampling=Sampling(temperature=0.0, ignore_eos=True),
        )
        for place, tenant in enumerate(tenants)
    ]


def order_of_ends(runner: ModelRunner, ordering: Ordering) -> list[str]:
    """The tenants, in the order in which their requests ended."""
    engine = Engine(runner, config=CONFIG, ordering=ordering, clock=time.time)
    for request in requests():
        assert engine.submit(request) is None
    ended = []
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Ended):
                assert event.finish is Finish.LENGTH
                assert len(event.sequence.output) == OUTPUT
                ended.append(event.sequence.request.tenant)
    assert len(ended) == NOISE + SMALL
    return ended


@pytest.mark.promise("llm.fair-share")
@pytest.mark.parametrize(
    ("policy", "most_noise_before", "least_noise_before"), [(Vtc, 16, 0), (Fifo, NOISE, NOISE - 8)], ids=["on", "off"]
)
def test_a_small_tenant_passes_the_queue_of_a_large_one_with_fairness_and_waits_behind_it_without(
    runner: ModelRunner, policy: Callable[[], Ordering], most_noise_before: int, least_noise_before: int
) -> None:
    ended = order_of_ends(runner, policy())
    last = len(ended) - 1 - ended[::-1].index("small")

    assert least_noise_before <= ended[:last].count("noisy") <= most_noise_before
