"""`python -m bench.sandboxes`: what a wall costs: from the start to the first reply, and then each round trip.

One server (`bench/echo.py`) behind every driver of this machine and behind none; they take turns in one run, medians
over the rounds, ratios to no wall of the same round. No gateway in between: these are the bare streams. `pooled` is the
first reply of one that a pool had ready. Drivers that this machine lacks are named at the end.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import uvloop

from bench.targets import HERE
from sandbox.driver import Driver, Session
from sandbox.drivers import FINDERS
from sandbox.errors import SandboxError
from sandbox.pool import Pool
from sandbox.runtime import runtime_mounts
from sandbox.spec import Spec

COMMAND = (sys.executable, "-c", (HERE / "echo.py").read_text())
CALLS = 300
SETTLE_S = 2.0
"""How long one lies in a pool before it is taken: its program has started by then."""
NO_WALL = "none"


class Streams(Protocol):
    """A session, or a process that nothing confines."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...


@dataclass(slots=True)
class Measured:
    """One driver, a value per round."""

    first_ms: list[float] = field(default_factory=list)
    pooled_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    end_ms: list[float] = field(default_factory=list)


async def measure(name: str, driver: Driver | None, into: Measured) -> None:
    begun = time.perf_counter()
    async with _server(driver) as streams:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}}
        await _ask(streams, 0, "initialize", hello)
        into.first_ms.append(1e3 * (time.perf_counter() - begun))
        times = []
        for number in range(1, CALLS + 1):
            sent = time.perf_counter()
            await _ask(streams, number, "tools/call", {"name": "look", "arguments": {"text": "t" * 420}})
            times.append(1e3 * (time.perf_counter() - sent))
        into.p50_ms.append(statistics.median(times))
        into.p95_ms.append(sorted(times)[int(0.95 * CALLS)])
        ended = time.perf_counter()
    into.end_ms.append(1e3 * (time.perf_counter() - ended))
    if driver is not None:
        into.pooled_ms.append(await _pooled(driver))
    print(f"  {name}: {into.first_ms[-1]:.0f} ms, {into.p50_ms[-1]:.2f} ms", file=sys.stderr, flush=True)


async def _pooled(driver: Driver) -> float:
    """Milliseconds from taking a sandbox out of a pool to its first reply."""

    async def start() -> Session | None:
        return await driver.start(Spec(argv=COMMAND, mounts=runtime_mounts(COMMAND)))

    pool: Pool[str, Session] = Pool()
    pool.keep("echo", 1, start)
    while not pool.ready("echo"):  # noqa: ASYNC110 - a pool tells nobody
        await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLE_S)
    begun = time.perf_counter()
    session = pool.take("echo")
    assert session is not None
    await _ask(session, 0, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}})
    took = time.perf_counter() - begun
    await pool.close()
    session.kill()
    await session.wait()
    return 1e3 * took


@asynccontextmanager
async def _server(driver: Driver | None) -> AsyncIterator[Streams]:
    if driver is None:
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        yield process
        process.kill()
        await process.wait()
    else:
        session = await driver.start(Spec(argv=COMMAND, mounts=runtime_mounts(COMMAND)))
        try:
            yield session
        finally:
            session.kill()
            await session.wait()


async def _ask(streams: Streams, number: int, method: str, params: Mapping[str, object]) -> None:
    assert streams.stdin is not None
    assert streams.stdout is not None
    streams.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"
    )
    if not await streams.stdout.readline():
        raise SystemExit("the server ended")


async def run(names: list[str], rounds: int) -> None:
    found: dict[str, Driver | None] = {NO_WALL: None}
    absent: dict[str, str] = {}
    for name in names:
        try:
            found[name] = FINDERS[name]()
        except SandboxError as missing:
            absent[name] = str(missing)
    table = {name: Measured() for name in found}
    for number in range(rounds + 1):
        print(f"round {number}/{rounds}", file=sys.stderr, flush=True)
        for name, driver in found.items():
            await measure(name, driver, table[name] if number else Measured())  # the first round warms up
    _show(table, rounds)
    for name, why in absent.items():
        print(f"\n{name}: not measured: {why}")


def _show(table: dict[str, Measured], rounds: int) -> None:
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {rounds} rounds, medians; ratios to no wall of the same round\n")
    print("| driver | start to first reply ms | pooled ms | round trip p50 ms | p95 ms | p50 ratio | end ms |")
    print("|---|---|---|---|---|---|---|")
    for name, found in table.items():
        ratio = statistics.median(a / b for a, b in zip(found.p50_ms, table[NO_WALL].p50_ms, strict=True))
        figures = [f"{statistics.median(found.first_ms):.0f}"]
        figures += [f"{statistics.median(found.pooled_ms):.0f}" if found.pooled_ms else ""]
        figures += [f"{statistics.median(values):.2f}" for values in (found.p50_ms, found.p95_ms)]
        figures += [f"{ratio:.2f}x", f"{statistics.median(found.end_ms):.0f}"]
        print(f"| {name} | {' | '.join(figures)} |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--drivers", nargs="*", default=list(FINDERS), choices=list(FINDERS))
    given = arguments.parse_args()
    uvloop.run(run(given.drivers, given.rounds))


if __name__ == "__main__":
    main()
