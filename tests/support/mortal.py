"""Gateways that may be killed at any instant, forked from a parent that has imported everything: one is up in 0.1 s.

`python -P -m support.mortal` is that parent: one JSON line in for each gateway to start, lines out for what becomes of
it (`started`, `ready`, `failed`, `ended`). `Nursery` is the test's end of it. Tills run without a sandbox unless it is
`real`: a hundred restarts are about the store and the corridor, not about walls.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.bootstrap import running
from gateway.errors import PratiqueError
from gateway.options import Options
from gateway.settings import SHIPPED
from gateway.walls import Walls
from sandbox.driver import GUARANTEES, Capabilities, Outlet, Session, Tried
from sandbox.spec import Spec
from support.scene import PACK, hang_up, real_walls, till

TESTS = Path(__file__).parents[1]


# ---- the test's end --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Mortal:
    """One gateway process."""

    pid: int
    ready: asyncio.Future[dict[str, Any]]
    """`{port, unknown}` once it answers; an error where it could not start."""
    ended: asyncio.Future[int]

    @property
    async def url(self) -> str:
        return f"http://127.0.0.1:{(await self.ready)['port']}"

    async def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        await self.ended


@dataclass(slots=True)
class Nursery:
    process: asyncio.subprocess.Process
    _started: asyncio.Queue[Mortal] = field(default_factory=asyncio.Queue)
    _born: dict[int, Mortal] = field(default_factory=dict)

    async def start(self, state: Path, *tills: Path, **wanted: Any) -> Mortal:
        """A gateway over `state` with these tills; `wanted`: `real` walls, `jitter`, `pack` and fields of `Options`."""
        assert self.process.stdin is not None
        message = {"state": str(state), "tills": [str(folder) for folder in tills], **wanted}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        return await self._started.get()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        loop = asyncio.get_running_loop()
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            pid = said["pid"]
            if pid not in self._born:
                self._born[pid] = Mortal(pid, loop.create_future(), loop.create_future())
            mortal = self._born[pid]
            match said["event"]:
                case "started":
                    self._started.put_nowait(mortal)
                case "ready":
                    mortal.ready.set_result(said)
                case "failed":
                    mortal.ready.set_exception(RuntimeError(said["why"]))
                case _:
                    mortal.ended.set_result(said["status"])
                    del self._born[pid]
                    if not mortal.ready.done():
                        mortal.ready.cancel()


@asynccontextmanager
async def nursery(*inside: str) -> AsyncIterator[Nursery]:
    """A parent for gateways, started by the command `inside`; whatever lives at the end of the block is killed."""
    process = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable),
        *("-P", "-m", "support.mortal"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS)},
        stdin=-1,
        stdout=-1,
        stderr=asyncio.subprocess.DEVNULL,
    )
    parent = Nursery(process)
    listening = asyncio.create_task(parent.listen())
    try:
        yield parent
    finally:
        hang_up()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening


# ---- the parent, and its children -------------------------------------------------------------------------------


class NoWalls:
    """Implements `sandbox.driver.Driver` with plain children."""

    name = "none"

    async def probe(self) -> Capabilities:
        return Capabilities(verified=frozenset(GUARANTEES))

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> Session:
        process = await asyncio.create_subprocess_exec(*spec.argv, env=dict(spec.env), stdin=-1, stdout=-1, stderr=-1)
        return _Plain(process)


NO_WALLS = Tried(name="bubblewrap", driver=NoWalls(), capabilities=Capabilities(verified=frozenset(GUARANTEES)))
"""In the place of the real driver."""


class _Plain:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


def _say(event: str, pid: int, **more: Any) -> None:
    os.write(1, json.dumps({"event": event, "pid": pid, **more}).encode() + b"\n")


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _CHILDREN.discard(ended[0])
            _say("ended", ended[0], status=ended[1])


_CHILDREN: set[int] = set()


async def _live(wanted: dict[str, Any]) -> None:
    real, jitter, pack = wanted.pop("real", False), wanted.pop("jitter", False), wanted.pop("pack", PACK)
    walls = Walls(tried=(NO_WALLS,), profiles=SHIPPED)
    more = ("--jitter",) if jitter else ()
    servers = [till(Path(folder), *more, name=Path(folder).name, pack=pack) for folder in wanted.pop("tills")]
    wanted["unsafe_without"] = frozenset(wanted.get("unsafe_without", ()))
    options = Options(
        **{"port": 0, **wanted, "state": Path(wanted["state"])},
        sandboxes=SHIPPED,
        servers={server.name: server for server in servers},
    )
    try:
        async with running(options, await real_walls() if real else walls) as gateway:
            _say("ready", os.getpid(), port=gateway.port, unknown=gateway.unknown)
            await asyncio.Event().wait()
    except PratiqueError as error:
        _say("failed", os.getpid(), why=str(error))


def main() -> None:
    signal.signal(signal.SIGCHLD, _reap)
    for line in iter(sys.stdin.buffer.readline, b""):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if (pid := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            try:
                asyncio.run(_live(json.loads(line)))
            finally:
                os._exit(1)
        _CHILDREN.add(pid)
        _say("started", pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in _CHILDREN:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
