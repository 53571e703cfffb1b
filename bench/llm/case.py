"""One way to answer the workload, and what it took."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Answers = list[list[int]]
"""The tokens that came out, in the order of the prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    engine: str
    sharing: str
    """`off`, `cold` or `warm`."""
    setup: Callable[[], Callable[[], Answers]]
    """Makes a fresh engine, and for a warm one lets it answer others; what it returns is measured."""
    clock: Callable[[], float] = time.process_time
    """CPU seconds so far, user and system, of the process that does the work."""
    is_torch: bool = True
    is_ours: bool = False


@dataclass(slots=True)
class Measured:
    """A value for each repeat."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    answers: Answers = field(default_factory=list)

    def add(self, case: Case) -> None:
        run = case.setup()
        cpu, wall = case.clock(), time.perf_counter()
        self.answers = run()
        self.cpu_s.append(case.clock() - cpu)
        self.wall_s.append(time.perf_counter() - wall)
