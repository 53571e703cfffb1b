"""Programs to run in whichever driver, and a way to run them that leaves nothing, whatever the test finds."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.driver import Driver, Outlet, Session
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

PATIENCE_S = 150.0
"""For one program from start to end: an emulated machine that shares its processor needs it."""
END_S = 15.0
"""How long a killed sandbox may take to be gone."""
STALL_S = 2.0
"""A stream that moved nothing for so long stands still."""
MIB = 1 << 20

WORK = "/desk"
"""Where the shared folder is, inside."""

CAT = Spec(argv=("/bin/cat",))


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended."""

    status: int
    out: str
    err: str


def shell(source: str, *mounts: Mount) -> Spec:
    return Spec(argv=("/bin/sh", "-c", source), mounts=mounts)


def python(source: str, *arguments: str, mounts: tuple[Mount, ...] = ()) -> Spec:
    argv = (sys.executable, "-I", "-S", "-c", source, *arguments)
    return Spec(argv=argv, mounts=(*runtime_mounts(argv), *mounts))


def shared(folder: Path) -> Mount:
    return Mount(source=str(folder), target=WORK, writable=True)


@asynccontextmanager
async def running(driver: Driver, spec: Spec, outlet: Outlet | None = None) -> AsyncIterator[Session]:
    """A session that ends with the block."""
    async with asyncio.timeout(PATIENCE_S):
        session = await driver.start(spec, outlet)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield session
    finally:
        await end(session)


async def end(session: Session) -> int:
    """Kill it, and wait until it is gone: its streams too."""
    session.kill()
    async with asyncio.timeout(END_S):
        status = await session.wait()
        await asyncio.gather(_discard(session.stdout), _discard(session.stderr))
    session.stdin.close()
    with suppress(ConnectionError):
        await session.stdin.wait_closed()
    return status


async def _discard(stream: asyncio.StreamReader) -> None:
    """A stream whose end nobody has read stays open in this process."""
    while await stream.read(MIB):
        pass


async def ran(driver: Driver, spec: Spec, said: bytes = b"") -> Ran:
    """A program to its end, told this and no more."""
    async with running(driver, spec) as session:
        _, out, err = await asyncio.gather(say(session, said, last=True), session.stdout.read(), session.stderr.read())
        status = await session.wait()
    return Ran(status, out.decode(), err.decode())


async def say(session: Session, words: bytes, *, last: bool = False) -> None:
    """A program that has ended, or closed its ears, is no failure: what it answered tells more."""
    with suppress(ConnectionError):
        session.stdin.write(words)
        await session.stdin.drain()
    if last:
        session.stdin.close()


async def ask(session: Session, words: bytes) -> bytes:
    """A line for a line."""
    await say(session, words)
    return await session.stdout.readline()


def limited(spec: Spec, **limits: int) -> Spec:
    return replace(spec, limits=replace(spec.limits, **limits))
