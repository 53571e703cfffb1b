"""Processes that want to go on after the end: each writes a byte into a file of the box a hundred times a second.

One way per sandbox. `lingering.py WAY FILE [UID]` prints `ready` when its process is at work; its number stands in the
file's first line.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

BOUND_S = 20.0
"""Where nothing ends it, this does."""

ASKS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)


def beat(path: str) -> None:
    ends = time.monotonic() + BOUND_S
    with open(path, "ab", buffering=0) as file:
        file.write(f"{os.getpid()}\n".encode())
        while time.monotonic() < ends:
            file.write(b".")
            time.sleep(0.01)


def born() -> bool:
    """In a child: its streams lead nowhere, so that whoever waits for them to end does not wait for it."""
    if os.fork():
        return False
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return True


def child(path: str) -> None:
    if born():
        beat(path)


def daemon(path: str) -> None:
    """Twice forked, in a session of its own."""
    if born():
        os.setsid()
        if born():
            beat(path)
        os._exit(0)


def deaf(path: str) -> None:
    """To every signal that may be ignored."""
    if born():
        for number in ASKS:
            signal.signal(number, signal.SIG_IGN)
        beat(path)


def woken(path: str) -> None:
    """Stopped, and woken by a friend in another session."""
    told, tell = os.pipe()
    if born():
        os.write(tell, str(os.getpid()).encode())
        signal.raise_signal(signal.SIGSTOP)
        beat(path)
    sleeper = int(os.read(told, 32))
    if born():
        os.setsid()
        time.sleep(0.2)
        os.kill(sleeper, signal.SIGCONT)
        os._exit(0)


def timer(path: str) -> None:
    """No loop of its own: the kernel's timer calls it."""
    if born():
        file = open(path, "ab", buffering=0)  # noqa: SIM115
        file.write(f"{os.getpid()}\n".encode())
        signal.signal(signal.SIGALRM, lambda *_: file.write(b"."))
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        ends = time.monotonic() + BOUND_S
        while time.monotonic() < ends:
            signal.pause()
        os._exit(0)


WAYS: dict[str, Callable[[str], None]] = {
    "child": child,
    "daemon": daemon,
    "deaf": deaf,
    "woken": woken,
    "timer": timer,
}


def main(way: str, path: str, uid: str = "") -> None:
    if uid:
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    WAYS[way](path)
    while not os.path.exists(path) or b"..." not in open(path, "rb").read():  # noqa: SIM115
        time.sleep(0.02)
    os.write(1, b"ready\n")
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
