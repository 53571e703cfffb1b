"""The virtual machine: what QEMU is told to emulate, and how much of the host it may use for that."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sandbox.bubblewrap.view import GUEST
from sandbox.errors import SandboxError
from sandbox.spec import MIB, Limits, Spec
from sandbox.vm.guest import CONSTANT, FRESH

PROGRAM: Final = "qemu-system-x86_64"
INSTALL: Final = "Install it: apt install qemu-system-x86."

KVM: Final = "/dev/kvm"
Accelerator: TypeAlias = Literal["kvm", "tcg"]

PORTS: Final = ("control", "stdin", "stdout", "stderr", "outlet")
"""The guest's serial ports, from the first on."""

GUEST_BYTES: Final = 128 * MIB
"""What the guest's own system takes, over what its sandbox may use."""
STEP_BYTES: Final = 128 * MIB
"""Machines come in these sizes, so that few snapshots serve many limits; the guest holds the exact limit."""
EMULATOR_BYTES: Final = 256 * MIB
"""What QEMU takes over the guest's memory: translated code, its own tables, streams."""
TRANSLATED_MIB: Final = 64

_THREADS: Final = 160
"""QEMU's: a pool of 64 serves files, and a few more."""
_FILES: Final = 2048
"""QEMU holds the guest's files open."""

_CPU: Final[Mapping[Accelerator, str]] = {"kvm": "host", "tcg": "max"}
_ACCELERATION: Final[Mapping[Accelerator, str]] = {"kvm": "kvm", "tcg": f"tcg,tb-size={TRANSLATED_MIB}"}
_DENY: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """QEMU, as it is installed."""

    path: str
    version: str

    def described(self) -> bytes:
        """All that a snapshot depends on besides the guest: the emulator, and the devices that it is told of."""
        nothing = Hardware(emulator=self, accelerator="tcg", memory_bytes=0, kernel=0, initramfs=0, memory=0)
        return "\0".join((self.version, *nothing.spec(dict.fromkeys(PORTS, 0), wakes=True).argv)).encode()


def find_emulator() -> Emulator:
    """Raises SandboxError if there is none."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise SandboxError("vm", f"{PROGRAM} was not found", INSTALL)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as broken:
        raise SandboxError("vm", f"{path} does not run: {broken}", INSTALL) from broken
    return Emulator(path=path, version=re.sub(r"\s+", " ", said.partition("\n")[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One machine to start. Descriptors are those that QEMU inherits."""

    emulator: Emulator
    accelerator: Accelerator
    memory_bytes: int
    kernel: int
    initramfs: int
    memory: int | None
    """The file that is its memory; None: memory of its own."""

    def files(self) -> tuple[int, ...]:
        """The descriptors."""
        return tuple(file for file in (self.kernel, self.initramfs, self.memory) if file is not None)

    def spec(self, wires: Mapping[str, int], *, wakes: bool) -> Spec:
        """The emulator as a program for a sandbox.

        Args:
            wires: the monitor's and the ports' sockets.
            wakes: whether it waits for a snapshot's state. If not, it boots, and what it writes to its memory stays
                in that file.
        """
        memory_bytes = self.memory_bytes + EMULATOR_BYTES
        limits = Limits(memory_bytes=memory_bytes, pids=_THREADS, files=_FILES, tmp_bytes=MIB, file_bytes=1 << 40)
        return Spec(argv=tuple(self._argv(wires, wakes)), limits=limits)

    def _argv(self, wires: Mapping[str, int], wakes: bool) -> list[str]:
        size = f"size={self.memory_bytes}"
        sharing = "off" if wakes else "on"
        memory = f"memory-backend-file,id=ram,{size},mem-path=/proc/self/fd/{self.memory},share={sharing}"
        words = [self.emulator.path, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-sandbox", _DENY, "-machine", "q35,memory-backend=ram,usb=off,vmport=off,smm=off"]
        words += ["-accel", _ACCELERATION[self.accelerator], "-cpu", _CPU[self.accelerator], "-smp", "1"]
        words += ["-m", f"{self.memory_bytes // MIB}M"]
        words += ["-object", memory if self.memory is not None else f"memory-backend-ram,id=ram,{size}"]
        words += ["-kernel", f"/proc/self/fd/{self.kernel}", "-initrd", f"/proc/self/fd/{self.initramfs}"]
        words += ["-append", "quiet panic=-1"]
        for name, descriptor in wires.items():
            words += ["-chardev", f"socket,id={name},fd={descriptor}"]
        words += ["-mon", "chardev=monitor,mode=control", "-device", "virtio-serial-pci,id=ports"]
        for number, name in enumerate(PORTS, 1):
            words += ["-device", f"virtserialport,bus=ports.0,nr={number},chardev={name},name={name}"]
        for tag in (CONSTANT, FRESH):
            words += ["-fsdev", f"local,id={tag},path={GUEST},security_model=none,multidevs=remap"]
            words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        words += ["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]
        return [*words, "-incoming", "defer"] if wakes else words


def machine_bytes(limits: Limits) -> int:
    """How much memory a machine for these limits has."""
    return -(-(limits.memory_bytes + GUEST_BYTES) // STEP_BYTES) * STEP_BYTES


def find_busybox() -> Path:
    """Raises SandboxError if there is none that is linked statically."""
    install = "Install it: apt install busybox-static."
    for name in ("busybox", "busybox.static"):
        path = shutil.which(name)
        if path is not None and _is_static(Path(path)):
            return Path(path)
    raise SandboxError("vm", "no statically linked busybox was found", install)


def _is_static(program: Path) -> bool:
    """Whether it names no interpreter (an ELF program header of type PT_INTERP)."""
    with program.open("rb") as file:
        head = file.read(4096)
    if head[:5] != b"\x7fELF\x02":
        return False
    start, size, count = (
        int.from_bytes(head[32:40], "little"),
        *(int.from_bytes(head[at : at + 2], "little") for at in (54, 56)),
    )
    kinds = [int.from_bytes(head[start + size * i :][:4], "little") for i in range(count)]
    return 3 not in kinds
