"""What is started ahead is written down when it starts, and when it ends without a task."""

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.launcher import Launcher
from gateway.options import SandboxOptions, ServerOptions
from gateway.walls import Walls
from sandbox.driver import GUARANTEES, Capabilities, Tried

OWN = ServerOptions(name="own", command=(sys.executable, "-c", ""))


class Waits:
    """A driver whose sessions end when they are killed."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def start(self, spec: object, outlet: object = None) -> "Waits.Session":
        self.started.set()
        return self.Session()

    class Session:
        def __init__(self) -> None:
            self.ended, self.stdin = asyncio.Event(), self

        async def wait(self) -> int:
            await self.ended.wait()
            return 137

        def kill(self) -> None:
            self.ended.set()

        def close(self) -> None: ...


class AsTheyAre:
    async def mounts(self, server: ServerOptions, task: str) -> tuple[()]:
        return ()


@pytest.mark.promise("ahead-on-record")
async def test_one_that_no_task_took_has_a_start_and_an_end_on_record(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    async def record(kind: str, payload: dict[str, object], *, server: str, task: str = "") -> None:
        told.append((kind, task))

    driver = Waits()
    held = Tried(name="bubblewrap", driver=driver, capabilities=Capabilities(verified=frozenset(GUARANTEES)))  # type: ignore[arg-type]
    walls = Walls(tried=(held,), profiles={"standard": SandboxOptions(warm=1)})
    launcher = Launcher(walls=walls, workspaces=AsTheyAre(), record=record, state=tmp_path)
    launcher.warm_up([OWN])
    await driver.started.wait()
    await asyncio.sleep(0)
    assert told == [("server.started", "")]

    taken = await launcher(OWN, driver="bubblewrap", task="task_1")
    driver.started.clear()
    await driver.started.wait()
    await asyncio.sleep(0)
    await launcher.pool.close()
    assert told == [("server.started", ""), ("server.started", ""), ("server.stopped", "")]
    taken.kill()  # its end is told by whoever has it
    await asyncio.sleep(0)
    assert len(told) == 3
