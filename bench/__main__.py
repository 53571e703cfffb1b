"""`python -m bench`: the table of `bench/RESULTS.md`.

Targets take turns in one run; medians over the rounds; ratios to the proxy."""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench import direct
from bench.targets import HERE, Target, gateway, proxy

SHAPES = ((1, 400), (32, 3200))
"""(callers, calls)."""
TOOLS = ("write", "look")


@dataclass(slots=True)
class Measured:
    """One target under one load, a value per round."""

    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    calls_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def add(self, times_s: list[float], wall_s: float, cpu_s: float) -> None:
        ordered = sorted(times_s)
        self.p50_ms.append(1e3 * statistics.median(ordered))
        self.p95_ms.append(1e3 * ordered[int(0.95 * len(ordered))])
        self.calls_per_s.append(len(times_s) / wall_s)
        self.cpu_ms.append(1e3 * cpu_s / len(times_s))


def load(target: Target, callers: int, calls: int, tool: str) -> tuple[list[float], float, float]:
    """(times, wall seconds, the target's CPU seconds) of one load."""
    before = target.cpu_s()
    command = [sys.executable, str(HERE / "load.py"), str(target.port), str(callers), str(calls), target.prefix + tool]
    done = subprocess.run(command, input=f"{target.token}\n".encode(), check=True, stdout=subprocess.PIPE)
    said = json.loads(done.stdout)
    return said["times_s"], said["wall_s"], target.cpu_s() - before


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    table: dict[tuple[str, str, int], Measured] = {}
    idle: dict[str, str] = {}
    with proxy(18991) as bare, gateway(18992) as ours:
        for number in range(rounds + 1):
            for tool in TOOLS:
                for callers, calls in SHAPES:
                    for target in (bare, ours):
                        measured = load(target, callers, calls if number else calls // 4, tool)
                        if number:  # the first round warms up
                            table.setdefault((target.name, tool, callers), Measured()).add(*measured)
                print(f"round {number}/{rounds}: {tool}", file=sys.stderr, flush=True)
        idle = {target.name: direct.idle(target) for target in (bare, ours)}
    for tool in TOOLS:
        for _ in range(rounds):
            table.setdefault(("direct", tool, 1), Measured()).add(*direct.calls(SHAPES[0][1], tool))
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {rounds} rounds, medians; ratios to the SDK proxy of the same run\n")
    print("| call | callers | target | p50 ms | p95 ms | calls/s | CPU ms/call | p50 | calls/s | CPU |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (name, tool, callers), found in sorted(table.items(), key=lambda one: (one[0][1], one[0][2], one[0][0])):
        print(_row(name, tool, callers, found, table.get(("SDK proxy", tool, callers), found)))
    for name, said in idle.items():
        print(f"\n{name}, idle: {said}")


def _row(name: str, tool: str, callers: int, found: Measured, bare: Measured) -> str:
    median = statistics.median
    ratios = [
        f"{median(a / b for a, b in zip(ours, theirs, strict=False)):.2f}x" if name != "direct" else ""
        for ours, theirs in (
            (found.p50_ms, bare.p50_ms),
            (found.calls_per_s, bare.calls_per_s),
            (found.cpu_ms, bare.cpu_ms),
        )
    ]
    figures = [f"{median(found.p50_ms):.2f}", f"{median(found.p95_ms):.2f}", f"{median(found.calls_per_s):,.0f}"]
    cpu = f"{median(found.cpu_ms):.2f}" if name != "direct" else ""
    return f"| {tool} | {callers} | {name} | {' | '.join(figures)} | {cpu} | {' | '.join(ratios)} |"


if __name__ == "__main__":
    main()
