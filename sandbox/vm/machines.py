"""How a machine is got that waits to be told what to run: woken from a snapshot, or booted where there is none."""

import logging
import os
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.bubblewrap import Bubblewrap
from sandbox.errors import SandboxError
from sandbox.spec import Limits, Spec
from sandbox.vm.machine import KVM, Accelerator, Emulator, Hardware, machine_bytes
from sandbox.vm.running import Machine, power_on
from sandbox.vm.sealed import open_file, seal
from sandbox.vm.snapshot import Snapshot, Snapshots

logger = logging.getLogger(__name__)

BOOT_S: Final = 60.0
"""How long a guest may take to boot; it is 6 seconds under emulation, on an idle machine."""
KVM_BOOT_S: Final = 15.0
"""The same with KVM, before that is called broken."""
WAKE_S: Final = 15.0
"""How long a guest may take to wake."""

_PINGS: Final = 4
"""Exchanged before a snapshot is taken, so that what answers is in memory."""

_NOTHING: Final = Spec(argv=("none",))
"""What a guest is to see that runs nothing."""


class NoSnapshotError(Exception):
    """A machine boots, but its state cannot be had."""


@dataclass(slots=True, weakref_slot=True, kw_only=True)
class Machines:
    """The machines of one guest. Its files close when nobody holds it any more."""

    walls: Bubblewrap
    emulator: Emulator
    kernel: int
    initramfs: int
    snapshots: Snapshots
    accelerator: Accelerator | None = None
    """None: not tried yet."""

    def __post_init__(self) -> None:
        for file in (self.kernel, self.initramfs):
            weakref.finalize(self, os.close, file)

    async def ready(self, spec: Spec) -> Machine:
        """A machine in the sandbox that `spec` describes.

        Raises:
            SandboxError: none could be started.
        """
        accelerator = await self._accelerated()
        size = machine_bytes(spec.limits)
        kind = f"{accelerator}-{size}"
        try:
            snapshot = await self.snapshots.get(kind, lambda: self._take(accelerator, size))
        except NoSnapshotError as failed:
            logger.warning("no snapshot, so the machine boots", extra={"why": str(failed)})
            return await self._boot(spec, self._hardware(accelerator, size))
        try:
            return await self._wake(spec, self._hardware(accelerator, size, snapshot.memory), snapshot)
        except SandboxError as failed:
            logger.warning("a snapshot does not wake, so the machine boots", extra={"why": str(failed)})
            self.snapshots.forget(kind)
            return await self._boot(spec, self._hardware(accelerator, size))

    async def _accelerated(self) -> Accelerator:
        """KVM if a guest boots with it: the device may be there and not work."""
        if self.accelerator is None:
            self.accelerator = "kvm" if await self._boots_with_kvm() else "tcg"
        return self.accelerator

    async def _boots_with_kvm(self) -> bool:
        if not Path(KVM).exists():  # noqa: ASYNC240  # no disk is asked
            return False
        try:
            machine = await self._boot(_NOTHING, self._hardware("kvm", machine_bytes(Limits())), KVM_BOOT_S)
        except SandboxError as broken:
            logger.info("KVM does not work here", extra={"why": str(broken)})
            return False
        await machine.abandon()
        return True

    def _hardware(self, accelerator: Accelerator, size: int, memory: int | None = None) -> Hardware:
        return Hardware(
            emulator=self.emulator,
            accelerator=accelerator,
            memory_bytes=size,
            kernel=self.kernel,
            initramfs=self.initramfs,
            memory=memory,
        )

    async def _boot(self, spec: Spec, hardware: Hardware, within_s: float = BOOT_S) -> Machine:
        machine = await power_on(self.walls, spec, hardware)
        try:
            await machine.say(b"", expecting=b"ready\n", within_s=within_s)
        except BaseException:
            await machine.abandon()
            raise
        return machine

    async def _wake(self, spec: Spec, hardware: Hardware, snapshot: Snapshot) -> Machine:
        machine = await power_on(self.walls, spec, hardware, snapshot.state)
        try:
            await machine.wake(WAKE_S)
        except BaseException:
            await machine.abandon()
            raise
        return machine

    async def _take(self, accelerator: Accelerator, size: int) -> Snapshot:
        """Boot a machine that has seen nothing of anybody, and keep it.

        Raises:
            SandboxError: it does not boot.
            NoSnapshotError: its state cannot be had.
        """
        with ExitStack() as unless_taken:
            memory = open_file()
            unless_taken.callback(os.close, memory)
            os.ftruncate(memory, size)
            hardware = self._hardware(accelerator, size, memory)
            machine = await self._boot(_NOTHING, hardware)
            try:
                for _ in range(_PINGS):
                    await machine.say(b"ping\n", expecting=b"pong\n", within_s=WAKE_S)
                state = await machine.save(BOOT_S)
            except (SandboxError, OSError) as failed:
                raise NoSnapshotError(str(failed)) from failed
            finally:
                await machine.abandon()
            try:
                seal(memory)
            except OSError as failed:
                raise NoSnapshotError(str(failed)) from failed
            unless_taken.pop_all()
        return Snapshot(memory=memory, state=state)
