"""The table of probes, and how each is run: in a forked child with a deadline, for success changes the rest."""

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bait:
    """What there is on the host to be reached. Paths are the host's own; mounts keep their paths."""

    open: str
    """A folder of mode 0777: only walls keep it."""
    given: str
    """In `open`: mounted, read-only."""
    box: str
    """Mounted, writable."""
    private: str
    """A file of another user."""
    engine: str
    """The socket of an engine that starts containers."""
    victim: int
    """A process of the very uid that sandboxes have: only walls keep it."""
    handle: str
    """The canary's file handle, in hexadecimal, its type first (open_by_handle_at)."""
    shm_key: int
    """A System V shared memory segment of mode 0666."""
    shm_file: str
    """A file in the host's /dev/shm of mode 0666."""
    abstract: str
    """The name of a socket without a file."""
    ports: dict[str, int]
    """Listeners by what they stand for."""
    limits: dict[str, int]
    numbers: dict[str, int]
    """System calls of this machine."""

    @property
    def canary(self) -> str:
        return f"{self.open}/canary"

    @property
    def state(self) -> str:
        """Looks like the gateway's own folder."""
        return f"{self.open}/state"


Attempt: TypeAlias = Callable[[Bait], str | None]
"""What got through, None for nothing; an OSError is a refusal, any other exception is a broken probe."""

Judged: TypeAlias = Literal["effect", "kernel", "word"]
"""What counts as having got through: only what shows on the host, or was read of it (`effect`); that, and the answer
of the kernel where that is the host's (`kernel`); the program's own word, for what holds inside (`word`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    name: str
    group: str
    stopped_by: str
    """The defence without which it gets through (`defences.py`)."""
    judged: Judged
    attempt: Attempt = field(repr=False)
    deadline_s: float


PROBES: dict[str, Probe] = {}


def probe(
    name: str, *, stopped_by: str, judged: Judged = "effect", deadline_s: float = 10.0
) -> Callable[[Attempt], Attempt]:
    def enter(attempt: Attempt) -> Attempt:
        assert name not in PROBES
        group = attempt.__module__.rpartition(".")[2]
        PROBES[name] = Probe(
            name=name, group=group, stopped_by=stopped_by, judged=judged, attempt=attempt, deadline_s=deadline_s
        )
        return attempt

    return enter


def run(names: list[str], bait: Bait, slower: float) -> None:
    """Print a line when a probe begins and one when it has ended: whoever ends the whole sandbox is known by name."""
    for name in names:
        _say({"begun": name})
        _say({"ended": name, **in_child(PROBES[name], bait, slower)})


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def in_child(one: Probe, bait: Bait, slower: float) -> dict[str, object]:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # of the whole sandbox, this process goes first
        try:
            os.write(tell, json.dumps(_attempt(one, bait)).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with suppress(OSError):
        os.setpgid(child, child)
    try:
        said = _read(told, time.monotonic() + one.deadline_s * slower)
    finally:
        os.close(told)
        for kill in (os.killpg, os.kill):
            with suppress(OSError):
                kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said is None:
        return {"through": False, "said": "out of time", "late": True}
    if not said:
        return {"through": False, "said": f"its process ended with {status}"}
    answer: dict[str, object] = json.loads(said)
    return answer


def _attempt(one: Probe, bait: Bait) -> dict[str, object]:
    try:
        got = one.attempt(bait)
    except OSError as refused:
        name = errno.errorcode.get(refused.errno or 0, "")
        return {"through": False, "said": f"{name} {refused}"[:300], "errno": name}
    except MemoryError:
        return {"through": False, "said": "no memory"}
    except Exception:  # noqa: BLE001  # a probe that is broken proves nothing, and must say so
        return {"through": False, "said": traceback.format_exc()[-600:], "broken": True}
    return {"through": got is not None, "said": (got or "nothing")[:2000]}


def _read(pipe: int, until: float) -> bytes | None:
    """Everything, or None if that takes too long."""
    said = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            if not (part := os.read(pipe, 65536)):
                return said
            said += part
            with suppress(ValueError):
                json.loads(said)
                return said  # a grandchild may hold the pipe open
    return None


# ---- system calls ------------------------------------------------------------------------------------------------

libc = ctypes.CDLL(None, use_errno=True)


def call(bait: Bait, name: str, *arguments: object) -> int:
    """Raises OSError: the kernel's answer, ENOSYS for a call that this machine has no number for."""
    if name not in bait.numbers:
        raise OSError(errno.ENOSYS, name)
    return numbered(bait.numbers[name], *arguments)


def numbered(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    libc.syscall.restype = ctypes.c_long
    answer: int = libc.syscall(ctypes.c_long(number), *wide)
    if answer == -1:
        number_ = ctypes.get_errno()
        raise OSError(number_, os.strerror(number_))
    return answer


def reaches(bait: Bait, name: str, *arguments: object) -> str | None:
    """Got through if the kernel looked at the arguments: it complained of them, not of the caller."""
    try:
        return f"{name} answered {call(bait, name, *arguments)}"
    except OSError as error:
        if error.errno in REFUSALS:
            raise
        return f"{name} looked at its arguments: {error}"


CLONE = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}


def become_root_of(bait: Bait, *namespaces: str) -> None:
    """Where nothing stops it, a fresh user namespace gives every right over the other fresh ones. Only tried."""
    flags = 0
    for namespace in ("user", *namespaces):
        flags |= CLONE[namespace]
    with suppress(OSError):
        call(bait, "unshare", flags)
