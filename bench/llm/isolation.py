"""`python -m bench.llm.isolation`: what a model at work costs tool calls, in a thread of the gateway or beside it.

The gateway's calls to the echo server of `bench/`, durable audit and all, while `SEQUENCES` streams of SmolLM2 are read
over `/v1`; and the same calls to a gateway without a model. Gateways take turns in one run; medians over the rounds;
ratios to the gateway without a model in the same round.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.__main__ import load
from bench.targets import PROGRAM, Target, gateway
from gateway.cli.client import operator

SEQUENCES = 8
SHAPES = ((1, 400), (8, 1_200))
"""(callers, calls)."""
BASELINE = "no model"
INTERVALS_MS = (5.0, 0.5, 0.05)
"""Of `sys.setswitchinterval`, for the thread: Python's own, and smaller ones."""
PROMPT = "The history of the harbour is long, and it begins with a ship that"
_SETTINGS = '[llm]\nmodel = "smollm2"\nthreads = 1\nkv_memory_mb = 512\nisolation = "{}"\n'
_WITH_INTERVAL = (
    "import llmcore.hosts.thread as thread; thread.SWITCH_INTERVAL_S = {};"
    "from runpy import run_module; run_module('gateway', run_name='__main__', alter_sys=True)"
)


@dataclass(slots=True)
class Measured:
    """One gateway under one load, a value per round."""

    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    calls_per_s: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    """Of output, all sequences together, while the calls ran."""

    def add(self, times_s: list[float], wall_s: float, tokens: int) -> None:
        ordered = sorted(times_s)
        self.p50_ms.append(1e3 * statistics.median(ordered))
        self.p95_ms.append(1e3 * ordered[int(0.95 * len(ordered))])
        self.calls_per_s.append(len(times_s) / wall_s)
        self.tokens_per_s.append(tokens / wall_s)


@dataclass(slots=True)
class Reader:
    """A client that has the model write for ever, and reads it."""

    target: Target
    token: str
    has_begun: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    _socket: socket.socket | None = None

    def read(self) -> None:
        """Until `stop`; where the model ends by itself, it is asked again."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while not self.is_over:
                self._read_one()

    def stop(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _read_one(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.target.port, timeout=120)
        body = {"model": "smollm2", "prompt": PROMPT, "max_tokens": 4_000, "stream": True}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        with contextlib.closing(connection):
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            self._socket = connection.sock
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"the model was not asked: {answer.status} {answer.read()[:500]!r}")
            while answer.readline():
                self.has_begun.set()


@contextlib.contextmanager
def at_work(target: Target, token: str) -> Iterator[None]:
    """Within the block, every sequence is being generated."""
    readers = [Reader(target, token) for _ in range(SEQUENCES)]
    threads = [threading.Thread(target=reader.read, daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    for reader in readers:
        if not reader.has_begun.wait(120):
            raise SystemExit(f"{target.name}: a sequence did not begin")
    try:
        yield
    finally:
        for reader in readers:
            reader.stop()
        for thread in threads:
            thread.join()
        while operator(target.state).get("/llm")["sequences"]:
            time.sleep(0.05)


def decoded(target: Target) -> int:
    """Tokens of output so far, by the engine's own books."""
    return sum(tenant["decode_tokens"] for tenant in operator(target.state).get("/llm")["tenants"])


def granted(target: Target) -> str:
    """A token for the model, once that is loaded."""
    desk = operator(target.state)
    while (status := desk.get("/llm/models")["models"][0]["status"]) != "ready":
        if status.startswith("failed"):
            raise SystemExit(f"{target.name}: {status}")
        time.sleep(0.2)
    task = desk.post("/tasks", {"text": "bench", "allow": ["llm.generate"], "tokens": 10**9})
    token: str = task["token"]
    return token


def measure(target: Target, token: str | None, shape: tuple[int, int]) -> tuple[list[float], float, int]:
    """(times, wall seconds, tokens generated meanwhile) of one load."""
    callers, calls = shape
    if token is None:
        times_s, wall_s, _ = load(target, callers, calls, "write")
        return times_s, wall_s, 0
    with at_work(target, token):
        before = decoded(target)
        times_s, wall_s, _ = load(target, callers, calls, "write")
        return times_s, wall_s, decoded(target) - before


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    rounds = arguments.parse_args().rounds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and every gateway ends with it
    before = os.getloadavg()[0]
    table: dict[tuple[int, str], Measured] = {}
    with contextlib.ExitStack() as closing:
        targets = [closing.enter_context(gateway(18993, name=BASELINE))]
        for place, interval_ms in enumerate(INTERVALS_MS):
            code = _WITH_INTERVAL.format(interval_ms / 1e3)
            program, settings = (sys.executable, "-P", "-c", code), _SETTINGS.format("thread")
            name = f"thread, {interval_ms:g} ms"
            targets.append(closing.enter_context(gateway(18994 + place, settings, name=name, program=program)))
        process = gateway(18994 + len(INTERVALS_MS), _SETTINGS.format("process"), name="process", program=PROGRAM)
        targets.append(closing.enter_context(process))
        tokens = {target.name: granted(target) if target.name != BASELINE else None for target in targets}
        for number in range(rounds + 1):
            for shape in SHAPES:
                for target in targets:
                    measured = measure(target, tokens[target.name], shape if number else (shape[0], shape[1] // 4))
                    if number:  # the first round warms up
                        table.setdefault((shape[0], target.name), Measured()).add(*measured)
            print(f"round {number}/{rounds}", file=sys.stderr, flush=True)
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {before:.1f} before; {SEQUENCES} sequences of"
        f" SmolLM2 on one thread; {rounds} rounds, medians; ratios to `{BASELINE}`\n"
    )
    print("| callers | engine | p50 ms | p95 ms | calls/s | p50 | p95 | calls/s | tokens/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (callers, name), found in table.items():
        print(_row(callers, name, found, table[callers, BASELINE]))


def _row(callers: int, name: str, found: Measured, bare: Measured) -> str:
    median = statistics.median
    figures = [f"{median(found.p50_ms):.1f}", f"{median(found.p95_ms):.1f}", f"{median(found.calls_per_s):.0f}"]
    ratios = [
        f"{median(ours / theirs for ours, theirs in zip(some, others, strict=True)):.2f}x"
        for some, others in (
            (found.p50_ms, bare.p50_ms),
            (found.p95_ms, bare.p95_ms),
            (found.calls_per_s, bare.calls_per_s),
        )
    ]
    spoken = f"{median(found.tokens_per_s):.0f}" if name != BASELINE else ""
    return f"| {callers} | {name} | {' | '.join(figures)} | {' | '.join(ratios)} | {spoken} |"


if __name__ == "__main__":
    main()
