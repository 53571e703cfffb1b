"""Our engine, turned by hand."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.llm.case import Answers, Case
from bench.llm.workload import STEP_TOKENS, requests
from llmcore.engine import Engine, EngineConfig
from llmcore.events import Ended
from llmcore.ordering import Fifo
from llmcore.request import Request
from llmcore.runner.model_runner import ModelRunner


def engine(runner: ModelRunner, *, prefix_cache: bool, **settings: int | bool) -> Engine:
    config = {"num_blocks": runner.num_blocks, "max_step_tokens": STEP_TOKENS, **settings}
    return Engine(
        runner,
        config=EngineConfig(prefix_cache=prefix_cache, **config),  # type: ignore[arg-type]
        ordering=Fifo(),
        clock=time.time,
    )


def answer(engine: Engine, asked: list[Request], watch: Callable[[], None] = lambda: None) -> Answers:
    """Run them all to their end; `watch` is called after each step."""
    for request in asked:
        refused = engine.submit(request)
        assert refused is None, refused
    found: dict[str, list[int]] = {}
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Ended):
                found[event.sequence.request.id] = event.sequence.output
        watch()
    return [found[request.id] for request in asked]


def cases(name: str, runner: ModelRunner) -> Iterator[Case]:
    for sharing in ("off", "cold", "warm"):
        yield Case(engine=name, sharing=sharing, setup=_Setup(runner, sharing), is_ours=True)


@dataclass(frozen=True, slots=True)
class _Setup:
    runner: ModelRunner
    sharing: str

    def __call__(self) -> Callable[[], Answers]:
        fresh = engine(self.runner, prefix_cache=self.sharing != "off")
        if self.sharing == "warm":
            answer(fresh, requests(others=True))
        return lambda: answer(fresh, requests())
