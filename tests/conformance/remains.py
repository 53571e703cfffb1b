"""What sandboxes could leave behind on this machine: processes, containers, mounts, control groups, files, descriptors.

What is told apart by its owner (children, containers, groups) must be gone at once. Places that others use as well are
watched a while: what stays there is a remainder, what goes was somebody else's.
"""

import asyncio
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.parse import quote

from typing_extensions import override

GONE_S: Final = 10.0
SERVANTS = (b"containerd-shim", b"runsc", b"qemu-system", b"bwrap")
"""Programs that stand between a gateway and what it started."""
TESTS: Final = re.compile("/pratique-(engine|escape)-")
"""What other tests make and remove themselves."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """As sentences, so that a difference reads as what it is."""

    own: frozenset[str]
    common: frozenset[str]


def footprint(owner: int | None = None) -> Footprint:
    """Of the gateway `owner`; None: this process, whose descriptors count too."""
    pid = owner or os.getpid()
    own = {*_descendants(pid), *_containers(pid), *_groups(f"pratique-{pid}-")}
    if owner is None:
        own.add(f"{len(os.listdir('/proc/self/fd'))} descriptors")
    return Footprint(frozenset(own), frozenset((*_servants(), *_mounts(), *_groups("docker/"), *_files())))


async def left_since(before: Footprint, owner: int | None = None) -> frozenset[str]:
    """What is there now and was not, and does not go."""
    after = footprint(owner)
    common = after.common - before.common
    with suppress(TimeoutError):
        async with asyncio.timeout(GONE_S):
            while common:
                await asyncio.sleep(0.2)
                common &= footprint(owner).common
    return (after.own - before.own) | common


def descendants(pid: int) -> Iterator[int]:
    """Every process that this one started, however indirectly."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                yield child
                yield from descendants(child)


def _descendants(pid: int) -> Iterator[str]:
    for child in descendants(pid):
        yield f"process {child}: {_command(child).replace(bytes(1), b' ').decode(errors='replace')[:80]}"


def _servants() -> Iterator[str]:
    for place in Path("/proc").glob("[0-9]*"):
        pid = int(place.name)
        if (program := _servant(pid)) and not _is_anothers(pid):
            yield f"{program} {pid}"


def _servant(pid: int) -> str:
    """Its program's name if it is one of them, else nothing."""
    program = os.path.basename(_command(pid).partition(b"\0")[0])
    return program.decode() if program.startswith(SERVANTS) else ""


def _is_anothers(pid: int) -> bool:
    """Whether somebody else on this machine has it, and lives; an orphan is nobody's."""
    while _servant(pid):
        pid = _parent(pid)
    return pid not in (0, 1, os.getpid())


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _mounts() -> Iterator[str]:
    """Other engines' containers are not ours."""
    engine = os.path.dirname(_socket())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        if place.startswith(engine) or ("/overlay2/" not in place and not TESTS.search(place)):
            yield f"mount {place}"


def _socket() -> str:
    return os.environ["DOCKER_HOST"].removeprefix("unix://")


def _groups(part: str) -> Iterator[str]:
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        if f"/{part}" in folder:
            yield f"group {folder}"


def _files() -> Iterator[str]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pratique"
    for place in (*Path(tempfile.gettempdir()).glob("pratique*"), *Path("/dev/shm").iterdir(), *cache.rglob("*")):
        if not TESTS.search(str(place)):
            yield f"file {place}"


class _Engine(HTTPConnection):
    """HTTP over the engine's socket."""

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(_socket())


def _containers(pid: int) -> Iterator[str]:
    engine = _Engine("engine")
    engine.request("GET", f"/containers/json?all=1&filters={quote(json.dumps({'label': ['dev.pratique.owner']}))}")
    found = json.loads(engine.getresponse().read())
    engine.close()
    for one in found:
        if one["Labels"]["dev.pratique.owner"].partition(":")[0] == str(pid):
            yield f"container {one['Id'][:12]}: {one['State']}"
