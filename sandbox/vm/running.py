"""A machine that is switched on: its emulator in its sandbox, its wires, and what can be done with it."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sandbox.bubblewrap import Bubblewrap
from sandbox.bubblewrap.driver import Machine as Enclosed
from sandbox.bubblewrap.session import BubblewrapSession
from sandbox.errors import SandboxError
from sandbox.spec import Spec
from sandbox.vm.machine import KVM, Hardware
from sandbox.vm.monitor import Monitor
from sandbox.vm.sealed import open_file, sealed_bytes
from sandbox.vm.wires import Wires, lay

MEND: Final = "Run `pratique doctor` where the gateway runs, and read what QEMU says."

_SHARED: Final = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
"""Memory stays in its file; and QEMU tells how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Not yet running anything."""

    emulator: BubblewrapSession
    wires: Wires
    state: int | None
    """The file that it wakes from, under the descriptor that QEMU has too."""
    _monitor: Monitor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_monitor", Monitor(wires=self.wires))

    async def say(self, words: bytes, *, expecting: bytes, within_s: float) -> None:
        """Tell the guest something, and wait for its answer.

        Raises:
            SandboxError: it answers something else, or not in time.
        """
        control = self.wires["control"]
        control.writer.write(words)
        answer = b""
        try:
            async with asyncio.timeout(within_s):
                answer = await control.reader.readline()
        except TimeoutError:
            raise SandboxError("vm", f"the guest did not answer in {within_s:.0f} seconds", MEND) from None
        if answer != expecting:
            raise SandboxError("vm", f"the guest ended: {await self._last_words()}", MEND)

    async def wake(self, within_s: float) -> None:
        """Raises SandboxError if it does not wake from its state in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._command("qmp_capabilities")
                await self._command("migrate-set-capabilities", capabilities=_SHARED)
                await self._command("migrate-incoming", uri=f"fd:{self.state}")
                await self._monitor.event("RESUME")
        except (TimeoutError, EOFError):
            raise SandboxError("vm", f"its snapshot does not wake: {await self._last_words()}", MEND) from None

    async def save(self, within_s: float) -> bytes:
        """The state of its devices, its memory being in the file that it shares; it is stopped then.

        Raises:
            SandboxError: QEMU does not give it in time.
            OSError: there is no memory for it.
        """
        state = open_file()
        try:
            async with asyncio.timeout(within_s):
                await self._command("qmp_capabilities")
                await self._command("migrate-set-capabilities", capabilities=_SHARED)
                await self._monitor.give("state", state)
                await self._command("migrate", uri="fd:state")
                await self._monitor.event("MIGRATION", status="completed")
            return os.pread(state, os.fstat(state).st_size, 0)
        except (TimeoutError, EOFError):
            raise SandboxError("vm", f"its state cannot be saved: {await self._last_words()}", MEND) from None
        finally:
            os.close(state)

    async def abandon(self) -> None:
        """End it, whatever it does."""
        self.emulator.kill()
        await self.emulator.wait()
        self.wires.close()

    async def _command(self, name: str, **arguments: object) -> None:
        await self._monitor.execute(name, **arguments)

    async def _last_words(self) -> str:
        """What QEMU complained of. It is ended for that."""
        self.emulator.kill()
        await self.emulator.wait()
        said = await self.emulator.stderr.read()
        return said.decode(errors="replace").strip() or "QEMU said nothing"


async def power_on(walls: Bubblewrap, spec: Spec, hardware: Hardware, state: bytes | None = None) -> Machine:
    """Switch a machine on, in the sandbox that `spec` describes, as which its guest will see it.

    Args:
        state: what it is to wake from, by `wake`; without, it boots.

    Raises:
        SandboxError: its emulator could not be started.
    """
    wires = await lay()
    try:
        waking = None if state is None else sealed_bytes(state)
        try:
            lent = (*hardware.files(), *wires.descriptors.values(), *(() if waking is None else (waking,)))
            program = hardware.spec(wires.descriptors, wakes=waking is not None)
            devices = (KVM,) if hardware.accelerator == "kvm" else ()
            emulator = await walls.enclose(spec, Enclosed(spec=program, lent=lent, devices=devices))
        finally:
            if waking is not None:
                os.close(waking)
    except BaseException:
        wires.close()
        raise
    wires.hand_over()
    with suppress(ConnectionError):
        emulator.stdin.close()
    return Machine(emulator=emulator, wires=wires, state=waking)
