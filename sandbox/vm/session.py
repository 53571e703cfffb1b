"""A running machine: its program's streams, and the certainty that nothing outlives it."""

import asyncio
import logging
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sandbox.bubblewrap.session import BubblewrapSession
from sandbox.vm.wires import Wires

logger = logging.getLogger(__name__)

_COUNT_BYTES: Final = 8
_ALL: Final = 1 << 64

_LINGER_S: Final = 0.2
"""What lies in the sockets of a machine that is gone is read for so long; who reads slowly loses it."""

_LOST: Final = 128 + signal.SIGKILL
"""The status of a program whose machine went away."""


@dataclass(slots=True, kw_only=True)
class VMSession:
    """The emulator in its sandbox, and the wires to its guest."""

    emulator: BubblewrapSession
    wires: Wires
    attending: asyncio.Task[None] | None = None
    """Whoever carries its connections outward, if it may have any; done soon after the machine is gone."""
    _killed: bool = False
    _ending: asyncio.Task[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="machine end")

    @property
    def stdin(self) -> asyncio.StreamWriter:
        return self.wires["stdin"].writer

    @property
    def stdout(self) -> asyncio.StreamReader:
        return self.wires["stdout"].reader

    @property
    def stderr(self) -> asyncio.StreamReader:
        return self.wires["stderr"].reader

    @property
    def pid(self) -> int:
        return self.emulator.pid

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def kill(self) -> None:
        self._killed = True
        self.emulator.kill()

    async def _end(self) -> int:
        status = await self._told()
        self.emulator.kill()
        await self.emulator.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._arrived(_ALL, _ALL)
        last_words = b""
        if status is None and not self._killed:
            last_words = b"sandbox: the machine ended by itself. " + await self.emulator.stderr.read() + b"\n"
            logger.warning("a machine ended by itself", extra={"pid": self.pid})
        self.wires.close(last_words)
        if self.attending is not None:
            await asyncio.wait([self.attending])
        return _LOST if status is None else status

    async def _told(self) -> int | None:
        """The program's status, once all that it wrote is here; None: the machine went without a word."""
        control = self.wires["control"].reader
        try:
            word, status = (await control.readline()).split()
            counts = await control.readexactly(2 * _COUNT_BYTES)
            if word != b"ended":
                return None
            ended = int(status) & 0xFF
        except (ValueError, asyncio.IncompleteReadError):
            return None
        out, err = (int.from_bytes(counts[at : at + _COUNT_BYTES], "little") for at in (0, _COUNT_BYTES))
        await self._arrived(out, err)
        return ended

    async def _arrived(self, out: int, err: int) -> None:
        await self.wires["stdout"].reached(out)
        await self.wires["stderr"].reached(err)
