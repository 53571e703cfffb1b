"""Run inside a sandbox: asks for so much of each thing, and says how much it was given, a line of JSON each.

python -c SOURCE pids:40 files:200 tmp:2000000 file:2000000 memory:100000000 memories:4x50000000 cpu:3
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress

STEP = 1 << 20


def pids(most: str) -> int:
    """Processes alive together, this one included."""
    children: list[int] = []
    with suppress(BlockingIOError):
        while len(children) < int(most):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children) + 1


def files(most: str) -> int:
    opened: list[int] = []
    with suppress(OSError):
        while len(opened) < int(most):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    highest = max(opened)
    for descriptor in opened:
        os.close(descriptor)
    return highest + 1


def tmp(most: str) -> int:
    """Bytes in /tmp, in files of a megabyte."""
    written = 0
    paths: list[str] = []
    with suppress(OSError):
        while written < int(most):
            paths.append(f"/tmp/filled{len(paths)}")
            with open(paths[-1], "wb", buffering=0) as file:
                written += file.write(bytes(STEP))
    for path in paths:
        os.unlink(path)
    return written


def file(most: str) -> int:
    """Bytes in one file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    written = 0
    with suppress(OSError), open("/tmp/file", "wb", buffering=0) as one:
        while written < int(most):
            written += one.write(bytes(1 << 16))
    os.unlink("/tmp/file")
    return written


def memory(most: str) -> int:
    """Bytes that one process holds, told on the way, for it may not live to tell."""
    held: list[bytes] = []
    with suppress(MemoryError):
        while len(held) * STEP < int(most):
            held.append(b"\x01" * STEP)
            if len(held) % 4 == 0:
                say("memory", len(held) * STEP)
    return len(held) * STEP


def memories(shares: str) -> int:
    """Bytes that several processes hold together."""
    children, each = map(int, shares.split("x"))
    started = []
    for _ in range(children):
        taken, told = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(MemoryError):
                held = [b"\x01" * STEP for _ in range(each // STEP)]
                os.write(told, bytes([len(held) > 0]))
                signal.pause()
            os._exit(0)
        os.close(told)
        os.read(taken, 1)
        os.close(taken)
        started.append(child)
    time.sleep(0.5)  # whoever watches from outside must have had its look
    alive = [child for child in started if os.waitpid(child, os.WNOHANG)[0] == 0]
    for child in alive:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return each * len(alive)


def cpu(most_s: str) -> float:
    while time.process_time() < float(most_s):
        pass
    return time.process_time()


def say(what: str, had: float) -> None:
    sys.stdout.write(json.dumps({what: had}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for request in sys.argv[1:]:
        name, _, amount = request.partition(":")
        say(name, {one.__name__: one for one in (pids, files, tmp, file, memory, memories, cpu)}[name](amount))
