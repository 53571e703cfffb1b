"""Removes the containers of gateways that are no more; self-contained, for it is run as a program of its own too.

    python -I -S reaper.py SOCKET OWNER     outlives its gateway just long enough to remove what that left behind

The program's stdin is a pipe whose other end only the gateway holds: the kernel closes it whatever ended the gateway.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

LABEL: Final = "dev.pratique"
OWNER: Final = "dev.pratique.owner"
PROCESSES: Final = "dev.pratique.processes"
"""The process namespace in which the owner's number means something."""

CALL_S: Final = 10.0
LAST_LOOK_S: Final = 60.0
PAUSE_S: Final = 0.5


def ask(path: str, method: str, call: str, timeout_s: float = CALL_S) -> tuple[int, Any]:
    """One question to the engine, without an event loop. Raises OSError, or ValueError for nonsense."""
    ends_at = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(timeout_s)
        engine.connect(path)
        engine.sendall(f"{method} /v1.41{call} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
        said = bytearray()
        while part := engine.recv(1 << 16):
            said += part
            if time.monotonic() > ends_at or len(said) > 16 << 20:
                raise TimeoutError("no end of the answer")
    head, _, body = bytes(said).partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not head.startswith(b"HTTP/"):
        raise ValueError("not an engine's answer")
    return int(words[1]), json.loads(body) if body.strip() else None


def this_owner() -> str:
    """This process, told apart from any later one of the same number."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def these_processes() -> str:
    return os.readlink("/proc/self/ns/pid")


def sweep(path: str) -> None:
    """Remove the containers of dead owners, as far as this process can tell. Raises as `ask`."""
    for container in _containers(path, f"{PROCESSES}={these_processes()}"):
        owner = str(container["Labels"].get(OWNER, ""))
        pid, _, started = owner.partition(":")
        if pid.isdigit() and started != _started(int(pid)) and not _is_hidden(int(pid)):
            _remove(path, container["Id"])


def remove_of(path: str, owner: str) -> int:
    """Remove one owner's containers; how many there were. Raises as `ask`."""
    containers = _containers(path, f"{OWNER}={owner}")
    for container in containers:
        _remove(path, container["Id"])
    return len(containers)


def labels() -> dict[str, str]:
    """What a container of this process is known by."""
    return {LABEL: "1", OWNER: this_owner(), PROCESSES: these_processes()}


_guards: dict[tuple[int, str], tuple[int, int]] = {}


def guard(path: str) -> None:
    """See that this process has a watchdog at that engine; one each, until it ends. Raises OSError."""
    key = os.getpid(), path  # a forked process is another owner
    if key not in _guards or not _is_running(_guards[key][0]):
        _guards[key] = watch(path, this_owner())


def watch(path: str, owner: str) -> tuple[int, int]:
    """Start the watchdog of a process: its number, and the pipe that sets it off when it closes. Raises OSError.

    It is deaf to what a terminal or a service manager may send to all of a service.
    """
    theirs, ours = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        watchdog = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-B", __file__, path, owner],
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ],
            setsid=True,
            setsigmask=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
        os.close(null)
    return watchdog, ours


def _is_running(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:  # somebody else has seen its end
        return False


def _containers(path: str, label: str) -> list[dict[str, Any]]:
    filters = quote(json.dumps({"label": [f"{LABEL}=1", label]}))
    status, found = ask(path, "GET", f"/containers/json?all=1&filters={filters}")
    if status != 200 or not isinstance(found, list):
        raise ValueError(f"no list of containers: {found}")
    return found


def _remove(path: str, container: str) -> None:
    ask(path, "DELETE", f"/containers/{container}?force=1&v=1")


def _started(pid: int) -> str:
    """When a process started, in ticks since the system did; empty if there is none."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[19]
    return ""


def _is_hidden(pid: int) -> bool:
    """Whether somebody else's process of that number lives, and /proc does not show it (hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.path.exists(f"/proc/{pid}")
    except OSError:
        return False
    return False


def _main(path: str, owner: str) -> None:
    while os.read(0, 4096):
        pass
    ends_at, empty = time.monotonic() + LAST_LOOK_S, 0
    while empty < 3 and time.monotonic() < ends_at:  # a container asked for at the last moment appears a little later
        try:
            empty = 0 if remove_of(path, owner) else empty + 1
        except (OSError, ValueError):
            empty = 0
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    _main(*sys.argv[1:])
