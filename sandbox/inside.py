"""Run inside a sandbox by the probe: tries what must not work, each in a child of its own, and prints what happened.

    python -c SOURCE walls CANARY PORT NAME     -> {"filesystem": [...], "network": [...], "syscalls": [...]}
    python -c SOURCE limits PIDS MEMORY TMP     -> {"pids": n}, {"tmp": n}, {"memory": n}, a line each

A list names what got through, so that empty is good. What got through is judged outside too, by what it left there.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

HOLD_S = 0.3
CLONE_NEWUSER = 0x10000000
AF_ALG, AF_PACKET, AF_NETLINK, AF_VSOCK = 38, 17, 16, 40
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT)

_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {  # keyctl, ptrace, bpf, perf_event_open, userfaultfd, clone; io_uring_setup is 425 everywhere
    "x86_64": (250, 101, 321, 298, 323, 56),
    "aarch64": (219, 117, 280, 241, 282, 220),
}


def walls(canary: str, port: str, name: str) -> None:
    keyctl, ptrace, bpf, perf, fault, clone = _NUMBERS[os.uname().machine]
    tried = {
        "filesystem": {
            "read a file of the host": lambda: _opens(canary, os.O_RDONLY),
            "wrote a file of the host": lambda: _opens(f"{canary}.written", os.O_WRONLY | os.O_CREAT),
            "wrote to the root": lambda: _opens("/written", os.O_WRONLY | os.O_CREAT),
            "wrote to /usr": lambda: _opens("/usr/written", os.O_WRONLY | os.O_CREAT),
            "wrote a kernel setting": lambda: _opens("/proc/sys/kernel/core_pattern", os.O_WRONLY),
            "sees processes of the host": lambda: int(len([p for p in os.listdir("/proc") if p.isdigit()]) > 4),
        },
        "network": {
            "reached a port of the host": lambda: _connects(socket.AF_INET, ("127.0.0.1", int(port))),
            "reached an abstract socket of the host": lambda: _connects(socket.AF_UNIX, "\0" + name),
            "has an interface besides lo": lambda: int(_interfaces() != ["lo"]),
        },
        "syscalls": {
            "unshare": lambda: _passes(_libc.unshare(CLONE_NEWUSER)),
            "clone": lambda: _passes(_libc.syscall(clone, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)),
            "mount": lambda: _passes(_libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
            "io_uring": lambda: _passes(_libc.syscall(425, 1, 0)),
            "keyctl": lambda: _passes(_libc.syscall(keyctl, 0, -3, 1)),
            "ptrace": lambda: _passes(_libc.syscall(ptrace, 0, 0, 0, 0)),
            "bpf": lambda: _passes(_libc.syscall(bpf, 0, 0, 0)),
            "perf_event_open": lambda: _passes(_libc.syscall(perf, 0, 0, -1, -1, 0)),
            "userfaultfd": lambda: _passes(_libc.syscall(fault, 1)),
            "AF_VSOCK": lambda: _passes(_libc.socket(AF_VSOCK, 1, 0)),
            "AF_ALG": lambda: _passes(_libc.socket(AF_ALG, 5, 0)),
            "AF_NETLINK": lambda: _passes(_libc.socket(AF_NETLINK, 3, 0)),
            "AF_PACKET": lambda: _passes(_libc.socket(AF_PACKET, 3, 0)),
        },
    }
    got = {part: [what for what, attempt in attempts.items() if _in_child(attempt)] for part, attempts in tried.items()}
    _say(got)


def limits(pids: str, memory: str, tmp: str) -> None:
    """Ask for twice of everything; report what was had. Memory last: whoever takes too much may not live to tell."""
    _say({"pids": _children(2 * int(pids))})
    _say({"tmp": _fill("/tmp/filled", 2 * int(tmp))})  # noqa: S108
    _say({"memory": _take(int(memory) * 6 // 10, 4)})


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _in_child(attempt: Callable[[], int]) -> bool:
    """Whether the attempt got through; one that breaks its process did not."""
    child = os.fork()
    if child == 0:
        try:
            got_through = attempt()
        except OSError:
            got_through = 0
        os._exit(got_through)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def _opens(path: str, flags: int) -> int:
    os.close(os.open(path, flags, 0o600))
    return 1


def _connects(family: int, address: tuple[str, int] | str) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as caller:
        caller.settimeout(2)
        caller.connect(address)
    return 1


def _interfaces() -> list[str]:
    with open("/proc/net/dev") as table:
        return [line.split(":")[0].strip() for line in table.readlines()[2:]]


def _passes(answer: int) -> int:
    """Anything but a refusal: a bad argument, say, means that the call was looked at."""
    return int(not (answer == -1 and ctypes.get_errno() in REFUSALS))


def _children(most: int) -> int:
    children: list[int] = []
    with suppress(BlockingIOError):
        while len(children) < most:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children)


def _fill(path: str, most: int) -> int:
    written, file = 0, os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with suppress(OSError):
        while written < most:
            written += os.write(file, bytes(65536))
    os.close(file)
    os.unlink(path)
    return written


def _take(each: int, children: int) -> int:
    """Bytes that several processes hold at the same time, each taking `each` if it can."""
    started = []
    for _ in range(children):
        taken, say = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(MemoryError):
                held = bytearray(each)
                for page in range(0, each, 4096):
                    held[page] = 1
                os.write(say, b"k")
                signal.pause()
            os._exit(0)
        os.close(say)
        os.read(taken, 1)  # it has them, or is dead
        started.append(child)
    time.sleep(HOLD_S)  # whoever watches memory from outside must have had its look
    alive = [child for child in started if os.waitpid(child, os.WNOHANG)[0] == 0]
    for child in alive:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return each * len(alive)


if __name__ == "__main__":
    {"walls": walls, "limits": limits}[sys.argv[1]](*sys.argv[2:])
