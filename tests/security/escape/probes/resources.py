"""More than is allowed, of everything: twice the limit, and never the machine."""

import ctypes
import mmap
import os
import resource
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

from security.escape.probes.table import Bait, call, probe

MIB = 1 << 20
SHM_BYTES = 16 * MIB
TIMES = 2
"""How much more than the limit is asked for; the limits are four times as high where they are shown to matter."""


def _verdict(had: int, limit: int, unit: str) -> str | None:
    return f"had {had} {unit}, the limit is {limit}" if had > limit else None


def _fill(path: str, most: int, block: bytes = bytes(1 << 16)) -> int:
    written, file = 0, os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):
            while written < most:
                written += os.write(file, block)
        return os.fstat(file).st_size
    finally:
        os.close(file)
        os.unlink(path)


def _touch(place: "bytearray | mmap.mmap", size: int) -> None:
    for page in range(0, size, 4096):
        place[page] = 1


# ---- processes ---------------------------------------------------------------------------------------------------


@probe("processes", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    children = 0
    with suppress(OSError):
        while children < TIMES * bait.limits["pids"]:
            if os.fork() == 0:
                signal.pause()
            children += 1
    return _verdict(children, bait.limits["pids_at_most"], "processes")


@probe("processes-that-leave-their-group", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    """Daemons: whoever ends a process group does not end them; they go when their friend has gone."""
    told, tell = os.pipe()
    friend, held = os.pipe()
    with suppress(OSError):
        for _n in range(TIMES * bait.limits["pids"]):
            child = os.fork()
            if child == 0:
                os.setsid()
                os.close(held)
                with suppress(OSError):
                    if os.fork() == 0:
                        os.write(tell, b"x")
                        os.read(friend, 1)
                os._exit(0)
            os.waitpid(child, 0)
    os.write(tell, b"-")
    time.sleep(0.3)
    had = os.read(told, 1 << 16).count(b"x")
    os.close(held)
    time.sleep(0.5)  # they are gone before the next probe counts
    return _verdict(had, bait.limits["pids_at_most"], "daemons")


@probe("threads", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    threading.stack_size(1 << 16)
    held, started = threading.Event(), 0
    with suppress(RuntimeError):
        while started < TIMES * bait.limits["pids"]:
            threading.Thread(target=held.wait, daemon=True).start()
            started += 1
    return _verdict(started, bait.limits["pids_at_most"], "threads")


@probe("descriptors", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    had = 0
    with suppress(OSError):
        while had < TIMES * bait.limits["files"]:
            os.dup(0)
            had += 1
    return _verdict(had, bait.limits["files"], "descriptors")


@probe("limits-raised-by-oneself", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str | None:
    """Down is allowed, up is not."""
    kinds = {"files": resource.RLIMIT_NOFILE, "file_bytes": resource.RLIMIT_FSIZE}
    for name, kind in kinds.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (TIMES * bait.limits[name], TIMES * bait.limits[name]))
            return f"{name} doubled"
    return None


@probe("core-dumps", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str | None:
    """A dump goes wherever the host's core_pattern says, to a program of the host even."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (MIB, MIB))
    return _verdict(resource.getrlimit(resource.RLIMIT_CORE)[1] & 0xFFFFFFFF, 0, "bytes of dump")


# ---- files -------------------------------------------------------------------------------------------------------


@probe("tmp-filled", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    return _verdict(_fill("/tmp/filled", TIMES * bait.limits["tmp"]), bait.limits["tmp"], "bytes in /tmp")


@probe("tmp-filled-by-many", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    names, had = [f"/tmp/part-{n}" for n in range(TIMES * 8)], 0
    for name in names:
        with suppress(OSError), open(name, "wb", buffering=0) as file:
            had += file.write(bytes(bait.limits["tmp"] // 8))
    for name in names:
        with suppress(OSError):
            os.unlink(name)
    return _verdict(had, bait.limits["tmp"], "bytes in /tmp")


@probe("tmp-allocated", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    """Promised, not written."""
    file = os.open("/tmp/allocated", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(file, 0, TIMES * bait.limits["tmp"])
        return _verdict(os.fstat(file).st_blocks * 512, bait.limits["tmp"], "bytes in /tmp")
    finally:
        os.unlink("/tmp/allocated")


@probe("zip-bomb", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    """A thousandth of it comes in."""
    most = TIMES * bait.limits["tmp"]
    bomb = zlib.compress(bytes(most))
    opened, had = zlib.decompressobj(), 0
    with open("/tmp/unpacked", "wb", buffering=0) as file, suppress(OSError):
        while bomb:
            had += file.write(opened.decompress(bomb, 1 << 16))
            bomb = opened.unconsumed_tail
    os.unlink("/tmp/unpacked")
    return _verdict(had, bait.limits["tmp"], "bytes unpacked")


@probe("large-file", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    had = _fill(f"{bait.box}/large", TIMES * bait.limits["file_bytes"])
    return _verdict(had, bait.limits["file_bytes"], "bytes in one file")


@probe("large-file-with-a-hole", stopped_by="limits", judged="word")
def _(bait: Bait) -> str | None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path, size = f"{bait.box}/hole", TIMES * bait.limits["file_bytes"]
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file, size)
        return _verdict(os.fstat(file).st_size, bait.limits["file_bytes"], "bytes in one file")
    finally:
        os.unlink(path)


@probe("shared-memory-filled", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str | None:
    """Its size is the drivers' own, whatever the limits say."""
    path = f"/dev/shm/filled-{os.getpid()}"
    return _verdict(_fill(path, TIMES * SHM_BYTES), SHM_BYTES, "bytes in /dev/shm")


# ---- processor ---------------------------------------------------------------------------------------------------


@probe("processor-seconds", stopped_by="limits", judged="word", deadline_s=45)
def _(bait: Bait) -> str | None:
    """The signal that asks it to end is ignored: the one that does not ask comes a second after."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    limit = bait.limits["cpu_s"]
    while time.process_time() < 1.5 * limit + 1.5:  # a limit is looked at by ticks, and some are lost
        pass
    return _verdict(int(time.process_time()), limit, "processor seconds")


# ---- memory: last, for where its limit ends the whole sandbox the rest is tried in another --------------------------


def _children_take(bait: Bait, take: "Callable[[int], object]") -> str | None:
    """Four at once, half the limit each."""
    each = TIMES * bait.limits["memory"] // 4
    had = 0
    for _n in range(4):
        told, tell = os.pipe()
        if os.fork() == 0:
            held = take(each)
            os.write(tell, b"x")
            signal.pause()
            del held
        os.close(tell)
        had += len(os.read(told, 1))  # it has it, or is dead
    time.sleep(0.3)  # whoever watches memory from outside must have had its look
    alive = 0
    for _n in range(4):
        with suppress(ChildProcessError):
            alive += os.waitpid(-1, os.WNOHANG)[0] == 0
    return _verdict(min(had, alive) * each, bait.limits["memory"], "bytes")


def _own(size: int) -> object:
    held = bytearray(size)
    _touch(held, size)
    return held


def _shared(size: int) -> object:
    held = mmap.mmap(-1, size)
    _touch(held, size)
    return held


@probe("memory-of-several", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    return _children_take(bait, _own)


@probe("memory-shared-by-several", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    return _children_take(bait, _shared)


@probe("memory-of-one", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    size = TIMES * bait.limits["memory"]
    _own(size)
    return _verdict(size, bait.limits["memory"], "bytes")


@probe("memory-mapped", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    size = TIMES * bait.limits["memory"]
    _shared(size)
    return _verdict(size, bait.limits["memory"], "bytes")


@probe("memory-locked", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    """Locked or, where that is refused, only asked for."""
    size = TIMES * bait.limits["memory"]
    held = mmap.mmap(-1, size)
    with suppress(OSError):
        call(bait, "mlockall", 3)
    _touch(held, size)
    return _verdict(size, bait.limits["memory"], "bytes")


@probe("memory-as-a-file-without-a-name", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    """In parts, each smaller than a file may be."""
    had, part = 0, min(bait.limits["file_bytes"], 4 * MIB)
    while had < TIMES * bait.limits["memory"]:
        file = os.memfd_create("held")
        had += os.write(file, bytes(part))
    return _verdict(had, bait.limits["memory"], "bytes")


@probe("memory-as-system-v-segment", stopped_by="limits", judged="word", deadline_s=20)
def _(bait: Bait) -> str | None:
    size = TIMES * bait.limits["memory"]
    segment = call(bait, "shmget", 0, size, 0o600)
    try:
        place = call(bait, "shmat", segment, None, 0)
        ctypes.memset(ctypes.c_void_p(place), 1, size)
    finally:
        call(bait, "shmctl", segment, 0, None)
    return _verdict(size, bait.limits["memory"], "bytes")
