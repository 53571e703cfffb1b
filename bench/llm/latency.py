"""How long a short request waits for its first token while a prompt of 4,000 tokens is computed.

Short requests come at random moments while it runs. The engine is turned by hand, so one that comes in the middle of a
step is submitted at its end, and its wait counts from when it came. Time is this process's on its one thread, which on
an idle machine is the clock's: what else a machine does would fall on some and not on others.
"""

from dataclasses import dataclass
from random import Random
from time import process_time

from bench.llm.measures import percentile
from bench.llm.ours import engine
from bench.llm.workload import request, text
from llmcore.engine import Engine
from llmcore.events import Advanced
from llmcore.runner.model_runner import ModelRunner

LONG = 4000
SHORT = 64
ARRIVALS = 8
"""Short requests for each long prompt, one at any moment of each eighth of the time that it takes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    step_tokens: int | None
    """The budget of a step; None: prompts go whole."""
    p95_s: float
    to_solo: float


def measure(runner: ModelRunner, budgets: tuple[int | None, ...], repeats: int) -> tuple[float, list[Wait]]:
    """(solo seconds, a line for each budget)."""
    solo: list[float] = []
    waits: dict[int | None, list[float]] = {budget: [] for budget in budgets}
    for number in range(repeats):
        for budget in budgets:  # taking turns, since a machine is not always as fast
            solo += [_first_token(runner, place) for place in range(4)]
            waits[budget] += _crowded(runner, budget, number)
    alone = percentile(solo, 0.5)
    p95_s = {budget: percentile(found, 0.95) for budget, found in waits.items()}
    return alone, [Wait(step_tokens=budget, p95_s=p95, to_solo=p95 / alone) for budget, p95 in p95_s.items()]


def _engine(runner: ModelRunner, budget: int | None) -> Engine:
    return engine(runner, prefix_cache=False, chunked=budget is not None, max_step_tokens=budget or 512)


def _first_token(runner: ModelRunner, number: int) -> float:
    turned = _engine(runner, None)
    began = process_time()
    assert turned.submit(request("s", text(500 + number, SHORT), 1)) is None
    while turned.has_work:
        turned.step()
    return process_time() - began


def _crowded(runner: ModelRunner, budget: int | None, number: int) -> list[float]:
    turned = _engine(runner, budget)
    assert turned.submit(request("long", text(600 + number, LONG), 1)) is None
    began = process_time()
    turned.step()
    steps = 1.0 if budget is None else LONG * turned.config.price(LONG / 2) / budget
    length, random = (process_time() - began) * steps, Random(number)  # all steps take as long
    due = [began + length * (place + random.random()) / ARRIVALS for place in range(ARRIVALS)]
    came: dict[str, float] = {}
    waits = []
    while due or turned.has_work:
        while due and (due[0] <= process_time() or not turned.has_work):
            name = f"s{len(came)}"
            came[name] = min(due.pop(0), process_time())
            assert turned.submit(request(name, text(700 + len(came), SHORT), 1)) is None
        names = [event.sequence.request.id for event in turned.step() if isinstance(event, Advanced)]
        waits += [process_time() - came[name] for name in names if name in came]
    return waits
