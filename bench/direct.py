"""No proxy at all: one caller on the echo server's own pipes; and what a proxy costs while nobody calls."""

import json
import subprocess
import time

from bench.targets import ECHO, Target

IDLE_S = 5.0


def calls(count: int, tool: str) -> tuple[list[float], float, float]:
    """(times, wall seconds, 0) of `count` calls over stdio."""
    times: list[float] = []
    with subprocess.Popen(ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        started = time.perf_counter()
        for number in range(count):
            arguments = {"text": "t" * 420} | ({"to": "d0"} if tool == "write" else {})
            params = {"name": tool, "arguments": arguments}
            line = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()
            sent = time.perf_counter()
            echo.stdin.write(line + b"\n")
            echo.stdin.flush()
            echo.stdout.readline()
            times.append(time.perf_counter() - sent)
        return times, time.perf_counter() - started, 0.0


def idle(target: Target) -> str:
    """Memory and CPU of a proxy that nobody calls."""
    before = target.cpu_s()
    time.sleep(IDLE_S)
    return f"{target.rss_mib():.0f} MiB, {1e3 * (target.cpu_s() - before) / IDLE_S:.1f} ms of CPU a second"
