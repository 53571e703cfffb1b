"""The clock, and being paused. What goes on after the end is in `lingering.py`, for it takes a sandbox each."""

import ctypes
import os
import signal
import struct

from security.escape.probes.table import Bait, call, probe, reaches

_BAD_TICK = struct.pack("<I", 0x4000) + bytes(84) + struct.pack("<q", 1) + bytes(112)
_BEFORE_BOOT = struct.pack("<qq", 1, 0)
"""A second after the epoch. A kernel that has run for longer refuses it, once it has looked at who asks."""


def _asks(name: str, title: str, *arguments: object) -> None:
    @probe(title, stopped_by="privileges", judged="kernel")
    def _(bait: Bait) -> str | None:
        return reaches(bait, name, *arguments)


_asks("clock_settime", "clock-set", 0, _BEFORE_BOOT)
_asks("settimeofday", "clock-set-by-the-older-call", _BEFORE_BOOT, None)
_asks("adjtimex", "clock-adjusted", ctypes.create_string_buffer(_BAD_TICK))
_asks("clock_adjtime", "clock-adjusted-by-name", 0, ctypes.create_string_buffer(_BAD_TICK))


@probe("clock-shifted-for-oneself", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    """In a time namespace the monotonic clock is what its owner says."""
    call(bait, "unshare", 0x10000080)
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write("monotonic 86400 0")
    return "a day ahead"


@probe("process-of-the-host-paused", stopped_by="processes")
def _(bait: Bait) -> str:
    os.kill(bait.victim, signal.SIGSTOP)
    return "sent"


@probe("process-of-the-host-slowed", stopped_by="processes")
def _(bait: Bait) -> str:
    os.setpriority(os.PRIO_PROCESS, bait.victim, 19)
    return f"nice {os.getpriority(os.PRIO_PROCESS, bait.victim)}"


@probe("own-priority-raised", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "more than its share"
