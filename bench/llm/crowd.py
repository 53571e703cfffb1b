"""What memory takes: blocks left unused, and five hundred clients in the queue."""

import time
from dataclasses import dataclass

from bench.llm.ours import answer, engine
from bench.llm.workload import request, requests, text
from llmcore.events import Ended
from llmcore.request import Finish
from llmcore.runner.model_runner import ModelRunner

CLIENTS = 500


def kv_waste(runner: ModelRunner) -> float:
    """Share of the slots in held blocks that hold nothing, over all steps of the workload without sharing."""
    turned = engine(runner, prefix_cache=False)
    held = used = 0

    def watch() -> None:
        nonlocal held, used
        for sequence in turned.look(0).sequences:
            held += sequence.blocks * turned.config.block_size
            used += sequence.computed

    answer(turned, requests(), watch)
    return 1 - used / held


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    answered: int
    refused: dict[str, int]
    """By their code."""
    wall_s: float


def crowd(runner: ModelRunner, max_waiting: int) -> Crowd:
    """Five hundred clients at once, 24 tokens in and 2 out each."""
    turned = engine(runner, prefix_cache=True, max_waiting=max_waiting)
    began = time.perf_counter()
    refused: dict[str, int] = {}
    for number in range(CLIENTS):
        found = turned.submit(request(f"c{number}", text(2000 + number, 24), 2))
        if found is not None:
            refused[found.code] = refused.get(found.code, 0) + 1
    answered = 0
    while turned.has_work:
        answered += sum(isinstance(event, Ended) and event.finish is Finish.LENGTH for event in turned.step())
    return Crowd(answered=answered, refused=refused, wall_s=time.perf_counter() - began)
