"""A running container: its streams, and the certainty that nothing outlives it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.docker.engine import Answer, Engine, Refused
from sandbox.docker.stream import Stream
from sandbox.errors import SandboxError

LOST: Final = 137
"""The status where the engine did not live to tell it: as of a program that was killed."""

KILL_S: Final = 10.0
"""How long a killed container may take to be gone before it is given up as lost."""

FINISH_S: Final = 5.0
REMOVE_S: Final = 20.0
_AGAIN_S: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Remover:
    """Removes containers, and remembers those that an engine in trouble did not let it."""

    engine: Engine
    left: set[str] = field(default_factory=set)

    async def remove(self, container: str) -> None:
        """Whatever runs in it is killed. Never raises: what is left is removed before the next start."""
        self.left.add(container)
        with suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(REMOVE_S):
                while not await self._is_gone(container):  # noqa: ASYNC110  # only the engine knows when
                    await asyncio.sleep(_AGAIN_S)
            self.left.discard(container)

    async def catch_up(self) -> None:
        """Remove what is left.

        Raises:
            SandboxError: the engine still does not let it.
        """
        for container in list(self.left):
            if await self._is_gone(container):
                self.left.discard(container)

    async def _is_gone(self, container: str) -> bool:
        try:
            await self.engine.call("DELETE", f"/containers/{container}", query={"force": 1, "v": 1})
        except Refused as refused:
            if refused.status == 404:
                return True
            if refused.status != 409:  # it is being removed already
                raise
            return False
        return True


@dataclass(slots=True, kw_only=True)
class DockerSession:
    """One container, from the moment its program runs."""

    remover: Remover
    container: str
    output: Stream
    """Its stdin and stdout."""
    errors: Stream
    exit: Answer
    """Open until the program ends."""
    serving: "asyncio.Task[None] | None" = None
    """The outlet's, while there is one."""
    _ending: asyncio.Task[int] = field(init=False)
    _killing: asyncio.Task[None] | None = field(init=False, default=None)
    _is_given_up: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="container end")

    @property
    def stdin(self) -> asyncio.StreamWriter:
        return self.output.writer

    @property
    def stdout(self) -> asyncio.StreamReader:
        return self.output.reader

    @property
    def stderr(self) -> asyncio.StreamReader:
        return self.errors.reader

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def kill(self) -> None:
        if not self._ending.done() and self._killing is None:
            self._killing = asyncio.create_task(self._kill(), name="container kill")

    async def _kill(self) -> None:
        """The engine answers, and tells of the end, only when the last that was said has been taken from it."""
        with suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(KILL_S):
                await asyncio.gather(
                    self._signal(),
                    self.output.protocol.take_all(),
                    self.errors.protocol.take_all(),
                )
                await asyncio.sleep(KILL_S)
        self._is_given_up = True  # no engine, or one that cannot kill
        self.exit.close()

    async def _signal(self) -> None:
        try:
            await self.remover.engine.call("POST", f"/containers/{self.container}/kill", timeout_s=KILL_S)
        except Refused as refused:
            if refused.status not in (404, 409):  # it has just ended by itself, and the engine is about to say how
                raise

    async def _end(self) -> int:
        status = await self._status()
        if self.serving is not None:
            self.serving.cancel()
        most_s = 0 if self._is_given_up else FINISH_S
        await asyncio.gather(self.output.finish(most_s), self.errors.finish(most_s))
        if self._is_given_up:
            self.remover.left.add(self.container)
        else:
            await self.remover.remove(self.container)
        if self._killing is not None:
            self._killing.cancel()
        return status

    async def _status(self) -> int:
        try:
            told: Any = await self.exit.read()
            return int(told["StatusCode"])
        except (SandboxError, TypeError, KeyError, ValueError):
            return LOST
