"""The VM driver: a kernel of its own for every sandbox, in an emulator that is a sandboxed program itself.

    start   (1) wires are laid: socket pairs, whose other ends the emulator inherits
            (2) QEMU is started by the bubblewrap driver in the very view that the program is to have, which it offers
                to its guest: whoever breaks out of the guest and of QEMU stands in a bubblewrap sandbox
            (3) the machine wakes from a snapshot, or boots if there can be none
            (4) it is told what to run (`plan.py`), and runs it

Start machines from a thread that lives as long as they do, as with bubblewrap.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sandbox.bubblewrap import Bubblewrap
from sandbox.driver import KERNEL, Capabilities, Outlet
from sandbox.egress import forwarder
from sandbox.errors import SandboxError
from sandbox.probe import verify
from sandbox.runtime import resolve, runtime_mounts
from sandbox.seccomp import assemble, load_rules
from sandbox.spec import Mount, Spec
from sandbox.vm import plan
from sandbox.vm.guest import OUTLET, fingerprint, initramfs
from sandbox.vm.kernel import find_kernel
from sandbox.vm.machine import find_busybox, find_emulator
from sandbox.vm.machines import Machines
from sandbox.vm.running import MEND
from sandbox.vm.sealed import sealed_bytes
from sandbox.vm.session import VMSession
from sandbox.vm.snapshot import Snapshots, cache_folder

BEGIN_S: Final = 15.0
"""How long a guest may take to begin what it was told."""

EMULATED: Final = (
    "there is no working KVM here, so QEMU emulates the processor, which its own policy does not call a security"
    " boundary. Run the gateway on a machine with KVM, or ask for gvisor."
)
ALIKE: Final = "machines woken from one snapshot have their guest kernel at the same addresses."


@dataclass(frozen=True, slots=True, kw_only=True)
class VM:
    """Starts programs in virtual machines; found once, used for every start."""

    machines: Machines
    seccomp: bytes = field(repr=False)
    """The guest's own filter; its emulator is behind another."""
    name: str = "vm"

    @classmethod
    def find(cls, cache: Path | None = None) -> "VM":
        """The driver for this machine, not yet proven to work: that is `probe`.

        Args:
            cache: where snapshots are kept; a folder of this user's, unless told.

        Raises:
            SandboxError: there is no QEMU, guest kernel, static busybox, or bubblewrap.
        """
        emulator, busybox, kernel = find_emulator(), find_busybox(), find_kernel()
        try:
            image, first = kernel.image.read_bytes(), initramfs(kernel, busybox.read_bytes())
        except OSError as unreadable:
            raise SandboxError("vm", str(unreadable), "Let the gateway's user read it.") from unreadable
        guest = fingerprint(image, first, emulator.described())
        machines = Machines(
            walls=Bubblewrap.find(),
            emulator=emulator,
            kernel=sealed_bytes(image),
            initramfs=sealed_bytes(first),
            snapshots=Snapshots(folder=cache or cache_folder(), guest=guest),
        )
        return cls(machines=machines, seccomp=assemble(load_rules(), machine="x86_64"))

    async def probe(self) -> Capabilities:
        found = await verify(self, lambda _: MEND)
        found = replace(found, notes=(*found.notes, ALIKE))
        if self.machines.accelerator == "kvm" and found.verified:
            return replace(found, verified=found.verified | {KERNEL})
        return replace(found, why_not={**found.why_not, KERNEL: EMULATED})

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> VMSession:
        spec = spec if spec.image else resolve(spec)
        if spec.network == "host":
            mend = "Name its destinations (egress), or use bubblewrap."
            raise SandboxError("network", "a virtual machine does not share the host's interfaces", mend)
        constant = set() if spec.image else {*runtime_mounts(spec.argv)}
        if outlet is not None:
            own = {*spec.mounts}
            spec, python = forwarder.equipped(spec)
            spec = replace(spec, argv=(*forwarder.command(python, str(OUTLET), str(OUTLET)), *spec.argv))
            constant |= {*spec.mounts} - own
        told = self._told(spec, constant, with_outlet=outlet is not None)
        machine = await self.machines.ready(spec)  # (1) (2) (3)
        try:
            await machine.say(b"run %d\n%b" % (len(told), told), expecting=b"running\n", within_s=BEGIN_S)  # (4)
        except BaseException:
            await machine.abandon()
            raise
        session = VMSession(emulator=machine.emulator, wires=machine.wires)
        if outlet is not None:
            wire = machine.wires["outlet"]
            attending = forwarder.attend(outlet, wire.reader, wire.writer)
            session.attending = asyncio.create_task(attending, name="sandbox outlet")
        return session

    def _told(self, spec: Spec, constant: Collection[Mount], *, with_outlet: bool) -> bytes:
        uid = self.machines.walls.uid(spec)
        try:
            return plan.program(spec, constant=constant, uid=uid, seccomp=self.seccomp, with_outlet=with_outlet)
        except ValueError as unfit:
            raise SandboxError("program", str(unfit), "Leave it out.") from unfit
