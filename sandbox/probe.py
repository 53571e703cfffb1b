"""Whether a driver keeps its promises on this machine: found by trying to break them, and judged from outside too."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, TypeAlias

from sandbox.driver import FILESYSTEM, GUARANTEES, NETWORK, RESOURCES, SYSCALLS, Capabilities, Driver
from sandbox.errors import SandboxError
from sandbox.runtime import runtime_mounts
from sandbox.spec import Limits, Spec

DEADLINE_S: Final = 15.0
"""For each of the two sandboxes that are tried."""

LIMITS: Final = Limits(memory_bytes=96 << 20, pids=24, tmp_bytes=1 << 20)
"""Small enough to be reached quickly."""

INSIDE: Final = "a program inside: "
"""How a list of what got through begins."""


Mend: TypeAlias = Callable[[str], str]
"""From what a driver's parts complained of to what a person can do about it."""


async def verify(driver: Driver, mend: Mend, *, limits: Limits = LIMITS, spare_pids: int = 0) -> Capabilities:
    """Try each guarantee. Never raises: what could not be tried was not verified.

    Args:
        spare_pids: by how many processes the limit may be passed where it is known to be a loose one.
    """
    why_not = await _walls(driver, mend, limits)
    if len(why_not) < len(GUARANTEES) - 1:  # else nothing starts, and a second failure would say no more
        why_not |= await _limits(driver, mend, limits, spare_pids)
    else:
        why_not[RESOURCES] = next(iter(why_not.values()))
    return Capabilities(verified=frozenset(GUARANTEES) - why_not.keys(), why_not=why_not)


async def _walls(driver: Driver, mend: Mend, limits: Limits) -> dict[str, str]:
    """Files, network and system calls: one sandbox, some bait on the host."""
    try:
        with _bait() as bait:
            got = json.loads(await _run(driver, mend, limits, "walls", bait.canary, str(bait.port), bait.name))
            outside = {FILESYSTEM: bait.was_touched(), NETWORK: bait.was_reached()}
    except (SandboxError, OSError, ValueError) as failed:
        return dict.fromkeys((FILESYSTEM, NETWORK, SYSCALLS), str(failed))
    broken = {part: [*got[part], *outside.get(part, ())] for part in (FILESYSTEM, NETWORK, SYSCALLS)}
    return {part: f"{INSIDE}{', '.join(what)}" for part, what in broken.items() if what}


async def _limits(driver: Driver, mend: Mend, limits: Limits, spare_pids: int) -> dict[str, str]:
    """Processes, /tmp and memory: asked for twice what is allowed."""
    had: dict[str, int] = {}
    most_pids = limits.pids + spare_pids
    asked = map(str, (most_pids, limits.memory_bytes, limits.tmp_bytes))
    try:
        said = await _run(driver, mend, limits, "limits", *asked)
        for line in said.splitlines():
            had |= json.loads(line)
    except (SandboxError, OSError, ValueError) as failed:
        return {RESOURCES: str(failed)}
    broken = []
    if had.get("pids", most_pids + 1) > most_pids:
        broken.append("more processes than the limit could be started.")
    if had.get("tmp", limits.tmp_bytes + 1) > limits.tmp_bytes:
        broken.append("more could be written to /tmp than the limit.")
    if had.get("memory", 0) > limits.memory_bytes:  # nothing said: whoever took it was ended
        summed = "each process's memory is limited, their sum is not."
        broken.append(f"{summed} {mend(summed)}")
    return {RESOURCES: " ".join(broken)} if broken else {}


async def _run(driver: Driver, mend: Mend, limits: Limits, *arguments: str) -> str:
    """What `inside.py` printed.

    Raises:
        SandboxError: it did not start, or not end in time, or said nothing.
    """
    source = resources.files("sandbox").joinpath("inside.py").read_text()
    argv = (sys.executable, "-I", "-S", "-c", source, *arguments)
    session = await driver.start(Spec(argv=argv, mounts=runtime_mounts(argv), limits=limits))
    try:
        async with asyncio.timeout(DEADLINE_S):
            session.stdin.close()
            said, complained = await asyncio.gather(session.stdout.read(), session.stderr.read())
    except TimeoutError:
        raise SandboxError(
            "probe", f"no end after {DEADLINE_S:.0f} seconds", "Try again on a less busy machine."
        ) from None
    finally:
        session.kill()
        await session.wait()
    if not said:
        complaint = complained.decode(errors="replace").strip() or "ended without a word"
        raise SandboxError("probe", complaint, mend(complaint))
    return said.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bait:
    """Things on the host that a sandbox must not reach."""

    canary: str
    folder: Path
    listener: socket.socket
    abstract: socket.socket
    name: str

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def was_touched(self) -> list[str]:
        untouched = os.listdir(self.folder) == ["canary"] and Path(self.canary).read_text() == self.name
        return [] if untouched else ["changed a file of the host"]

    def was_reached(self) -> list[str]:
        return [f"reached {bait.getsockname()!r}" for bait in (self.listener, self.abstract) if _has_caller(bait)]


@contextmanager
def _bait() -> Iterator[_Bait]:
    name = f"pratique-{secrets.token_hex(8)}"
    folder = Path(tempfile.mkdtemp(prefix="pratique-"))
    try:
        folder.chmod(0o777)  # so that walls are what keeps it, not permissions
        canary = folder / "canary"
        canary.write_text(name)
        canary.chmod(0o666)
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind("\0" + name)
            abstract.listen()
            yield _Bait(canary=str(canary), folder=folder, listener=listener, abstract=abstract, name=name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_caller(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
