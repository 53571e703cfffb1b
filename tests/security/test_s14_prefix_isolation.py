"""S14, the side channel: whether somebody else has sent a prompt before is not to be seen from one's own.

Measured where an attacker would measure it, on the work and the time that a prompt takes.
"""

from dataclasses import dataclass
from random import Random

import pytest
import torch

from bench.llm.cost import committed
from bench.llm.virtual import VirtualClock, VirtualRunner
from llmcore.engine import Engine, EngineConfig
from llmcore.ordering import Vtc
from llmcore.plan import Plan, Runner
from llmcore.request import Request, Sampling
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models import ModelConfig

PROMPT = tuple(Random(7).choices(range(90), k=150))
CONFIG = EngineConfig(num_blocks=64, max_step_tokens=64)
SMALLEST = ModelConfig(
    name="smallest", vocabulary=90, hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2, head_dim=8, window=512
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one request took, as whoever sent it could measure it."""

    prefill_tokens: int
    steps: int
    seconds: float
    output: tuple[int, ...]


def request(id: str, tenant: str, domain: str) -> Request:
    return Request(
        id=id,
        tenant=tenant,
        domain=domain,
        prompt=PROMPT,
        max_tokens=4,
        sampling=Sampling(temperature=0.0, ignore_eos=True),
    )


def work(engine: Engine, clock: VirtualClock, asked: Request) -> Work:
    """Of this request, with nothing beside it."""
    began, steps, output = clock.now, 0, []
    assert engine.submit(asked) is None
    while engine.has_work:
        output += [token for event in engine.step() for token in getattr(event, "tokens", ())]
        steps += 1
    told = [decision for decision in engine.decisions() if decision.request == asked.id]
    return Work(sum(decision.prefill_tokens for decision in told), steps, clock.now - began, tuple(output))


def engine_on(runner: Runner, clock: VirtualClock) -> Engine:
    return Engine(runner, config=CONFIG, ordering=Vtc(), clock=clock)


def virtual() -> tuple[Engine, VirtualClock]:
    clock = VirtualClock()
    return engine_on(VirtualRunner(committed(), clock, num_blocks=CONFIG.num_blocks), clock), clock


class Counted(ModelRunner):
    """A real model, on a clock that counts the tokens it runs."""

    clock: VirtualClock

    def run(self, plan: Plan) -> list:  # type: ignore[type-arg]
        self.clock.advance(plan.num_tokens)
        return super().run(plan)


def real() -> tuple[Engine, VirtualClock]:
    torch.set_num_threads(1)
    runner = Counted.random(SMALLEST, num_blocks=CONFIG.num_blocks, dtype="float64")
    assert isinstance(runner, Counted)
    runner.clock = VirtualClock()
    return engine_on(runner, runner.clock), runner.clock


@pytest.mark.promise("llm.no-cross-tenant-hit")
@pytest.mark.parametrize("machine", [virtual, real])
@pytest.mark.parametrize(
    ("tenant", "domain"),
    [("mallory", "mallory"), ("alice", "alice|secret"), ("mallory", "")],
    ids=["tenant", "label", "none"],
)
def test_a_prompt_takes_the_same_work_whether_or_not_another_domain_sent_it_before(machine, tenant, domain) -> None:
    untouched = work(*machine(), request("probe", tenant, domain))
    engine, clock = machine()
    work(engine, clock, request("victim", "alice", "alice"))
    after = work(engine, clock, request("probe", tenant, domain))

    assert after.prefill_tokens == untouched.prefill_tokens == len(PROMPT)
    assert after.steps == untouched.steps
    assert after.seconds == pytest.approx(untouched.seconds, rel=1e-9)
    assert after.output == untouched.output


@pytest.mark.parametrize("machine", [virtual, real])
def test_within_a_domain_it_is_spared(machine) -> None:
    """The control: the cache is on, and what is measured shows it."""
    engine, clock = machine()
    first = work(engine, clock, request("first", "alice", "alice"))
    second = work(engine, clock, request("second", "alice", "alice"))

    assert second.prefill_tokens < 16 < first.prefill_tokens
    assert second.seconds < first.seconds / 2
    assert second.output == first.output


@pytest.mark.promise("llm.no-cross-tenant-hit")
@pytest.mark.parametrize("machine", [virtual, real])
def test_side_by_side_neither_waits_for_the_blocks_of_the_other(machine) -> None:
    """In one step too: a domain computes its own, however many others compute the same."""
    engine, _ = machine()
    assert engine.submit(request("victim", "alice", "alice")) is None
    assert engine.submit(request("probe", "mallory", "mallory")) is None
    while engine.has_work:
        engine.step()
    told = engine.decisions()
    for id in ("victim", "probe"):
        assert sum(decision.prefill_tokens for decision in told if decision.request == id) == len(PROMPT)
        assert sum(decision.cached_tokens for decision in told if decision.request == id) == 0
