"""S14 on a real model of random weights: whoever loses its memory to others goes on, token for token, as if alone."""

from random import Random

import pytest
import torch

from bench.llm.virtual import VirtualClock
from llmcore.engine import Engine, EngineConfig
from llmcore.engine_config import PreemptionMode
from llmcore.events import Ended
from llmcore.ordering import POLICIES, ordering_named
from llmcore.request import Finish, Request, Sampling
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models import ModelConfig

SMALLEST = ModelConfig(
    name="smallest", vocabulary=90, hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2, head_dim=8, window=256
)
AMPLE, SCARCE, HOST = 400, 14, 20


def requests() -> list[Request]:
    """Twelve of a noisy tenant, three of a small one; half of them greedy, half drawn."""
    random = Random(9)
    return [
        Request(
            id=f"request-{place}",
            tenant=(tenant := "small" if place % 5 == 4 else "noisy"),
            domain=tenant,
            prompt=tuple(random.choices(range(90), k=random.randint(40, 60))),
            max_tokens=60,
            sampling=Sampling(temperature=float(place % 2), seed=place, ignore_eos=True),
            priority=int(tenant == "small"),
        )
        for place in range(15)
    ]


def said(asked: list[Request], config: EngineConfig, policy: str = "vtc") -> tuple[dict[str, list[int]], int]:
    """What each said, and how often somebody was preempted."""
    torch.set_num_threads(1)
    runner = ModelRunner.random(SMALLEST, num_blocks=config.num_blocks, host_blocks=config.host_blocks, dtype="float64")
    engine = Engine(runner, config=config, ordering=ordering_named(policy), clock=VirtualClock())
    for request in asked:
        assert engine.submit(request) is None
    output: dict[str, list[int]] = {}
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Ended):
                assert event.finish is Finish.LENGTH
                output[event.sequence.request.id] = event.sequence.output
    return output, sum(decision.kind == "preempted" for decision in engine.decisions())


@pytest.fixture(scope="module")
def alone() -> dict[str, list[int]]:
    config = EngineConfig(num_blocks=AMPLE, prefix_cache=False)
    return {id: tokens for request in requests() for id, tokens in said([request], config)[0].items()}


@pytest.mark.promise("llm.preempted-identical")
@pytest.mark.parametrize("mode", ["recompute", "swap", "auto"])
@pytest.mark.parametrize("policy", POLICIES)
def test_preempted_or_not_a_request_says_what_it_says_alone(
    alone: dict[str, list[int]], mode: PreemptionMode, policy: str
) -> None:
    config = EngineConfig(num_blocks=SCARCE, host_blocks=HOST, max_running=6, max_step_tokens=32, preemption=mode)
    output, preemptions = said(requests(), config, policy)

    assert preemptions > 3
    assert output == alone
