"""Memory watched from outside, where no control group can hold it: a look several times a second, and an end.

Weaker than a group: a burst passes the limit for a moment, and what no process maps is not seen (so the filter refuses
the calls that make such memory, and /tmp has its own limit). Each process's data is limited besides, exactly.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

FASTEST_S: Final = 0.05
SLOWEST_S: Final = 1.0
FILL_BYTES_PER_S: Final = 2 << 30
"""How fast memory is assumed to fill: the next look comes before the headroom can be gone."""


async def watch(init: int, limit_bytes: int, end: Callable[[], None], proc: Path = Path("/proc")) -> None:
    """Look after the process `init` and all its descendants, and call `end` once they hold more than the limit."""
    while True:
        held = held_bytes(init, limit_bytes, proc)
        if held > limit_bytes:
            end()
            return
        await asyncio.sleep(min(max((limit_bytes - held) / FILL_BYTES_PER_S, FASTEST_S), SLOWEST_S))


def held_bytes(init: int, limit_bytes: int, proc: Path = Path("/proc")) -> int:
    """Bytes in memory. Pages that processes share are told apart only when it matters, for that costs more."""
    family = list(_family(init, proc))
    resident = sum(_kib(proc / str(pid) / "status", ("VmRSS:", "VmSwap:")) for pid in family)
    if resident << 10 <= limit_bytes:
        return resident << 10
    return sum(_kib(proc / str(pid) / "smaps_rollup", ("Pss:", "SwapPss:")) for pid in family) << 10


def _family(pid: int, proc: Path) -> Iterator[int]:
    yield pid
    for children in (proc / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from _family(int(child), proc)


def _kib(table: Path, rows: tuple[str, ...]) -> int:
    with suppress(OSError):  # it has just ended
        words = (line.split() for line in table.read_text().splitlines())
        return sum(int(row[1]) for row in words if row and row[0] in rows)
    return 0
