"""Contents that many processes share and none can change: memory files, sealed.

A machine opens them again by their descriptor, whoever it runs as. What it writes to memory mapped from one is its own.
"""

import fcntl
import os
from collections.abc import Callable
from typing import Final

F_ADD_SEALS: Final = 1033
"""`fcntl.h`; Python's own module learned the name late."""
SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""Against more seals, shrinking, growing, and writing."""


def sealed(fill: Callable[[int], object]) -> int:
    """A new file that `fill` writes by its descriptor, sealed then, and read from its start. The caller closes it.

    Raises:
        OSError: there is no memory for it.
    """
    descriptor = open_file()
    try:
        fill(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sealed_bytes(content: bytes) -> int:
    return sealed(lambda descriptor: write_all(descriptor, content))


def open_file() -> int:
    """An empty one, not sealed yet."""
    return os.memfd_create("vm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(descriptor: int) -> None:
    """Raises OSError while somebody has it mapped to write."""
    fcntl.fcntl(descriptor, F_ADD_SEALS, SEALS)


def write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def copy_sparse(source: int, target: int) -> None:
    """Copy a file into an empty one, its holes as holes.

    Raises:
        OSError: the target has no room.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in _extents(source, size):
        os.lseek(target, start, os.SEEK_SET)
        at = start
        while at < end:
            at += os.sendfile(target, source, at, end - at)


def _extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Where there is data."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            break
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, at))
    return found
