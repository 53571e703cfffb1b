"""Each defence taken out, and nothing else: what it stops must then get through, or the probes prove nothing.

mounts      the folder that a mount lies in is mounted as a whole, and another user's file
read-only   the mount that is read-only may be written to
network     the network is shared: the island's, never the machine's
limits      they are four times as high, and twice of everything is asked for
filter      bubblewrap's program of one instruction, which allows; the engine's `seccomp=unconfined`
processes   the host's processes are seen and may be signalled
ipc         System V shared memory is the host's
privileges  a container of root's, on the island: every capability and device, no filter, nothing of /proc masked
sandbox     no sandbox at all: a child process of the sandboxes' uid, as every MCP client starts its servers
"""

import asyncio
import os
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from security.escape.baits import UID, Laid
from security.escape.judge import Starts
from support.scene import SOAK
from typing_extensions import override

from sandbox.bubblewrap import Bubblewrap
from sandbox.docker.driver import Docker
from sandbox.docker.engine import CALL_S, Engine
from sandbox.driver import Driver, Session
from sandbox.spec import Limits, Mount, Spec

ALLOW_ALL: Final = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
"""BPF_RET | BPF_K, SECCOMP_RET_ALLOW."""

WEAKENED: Final[Mapping[str, tuple[str, ...]]] = {
    "mounts": ("bubblewrap", "runc", "gvisor", "vm"),
    "read-only": ("bubblewrap", "runc", "gvisor", "vm"),
    "network": ("bubblewrap", "runc"),
    "limits": ("bubblewrap", "runc", "gvisor", *(["vm"] if SOAK > 1 else [])),  # a minute, emulated
    "filter": ("bubblewrap", "runc"),
    "processes": ("runc",),
    "ipc": ("runc",),
    "privileges": ("runc",),
    "sandbox": ("nothing",),
}
"""With which drivers each is taken out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A driver that is asked for something else than it is told."""

    driver: Starts
    change: Callable[[Spec], Spec]

    async def start(self, spec: Spec) -> Session:
        return await self.driver.start(self.change(spec))


def without(defence: str, driver: Driver | None, laid: Laid) -> Starts:
    """What starts sandboxes without it; `driver` is None for nothing at all."""
    if driver is None:
        return Nothing(canary=f"{laid.bait.open}/canary", secret=f"{laid.secret}-in-an-environment")
    match defence:
        case "mounts":
            private = not isinstance(driver, Docker)  # an engine cannot map owners: it refuses such a mount
            return Changed(driver=driver, change=lambda spec: _mounted(spec, laid, private=private))
        case "read-only":
            return Changed(driver=driver, change=lambda spec: _writable(spec, laid.bait.given))
        case "network":
            return Changed(driver=driver, change=lambda spec: replace(spec, network="host"))
        case "limits":
            return Changed(driver=driver, change=lambda spec: replace(spec, limits=_raised(spec.limits)))
        case "filter" if isinstance(driver, Bubblewrap):
            return replace(driver, filter=ALLOW_ALL)
        case _:
            assert isinstance(driver, Docker)
            edited = replace(driver, engine=Edited(socket=driver.engine.socket, edit=EDITS[defence]))
            return Changed(driver=edited, change=lambda spec: spec)


# ---- by what is asked of a driver ----------------------------------------------------------------------------------


def _mounted(spec: Spec, laid: Laid, *, private: bool) -> Spec:
    bait = laid.bait
    shown = [Mount(source=bait.open, target=bait.open, writable=True)]
    if private:
        shown.append(Mount(source=bait.private, target=bait.private))
    return replace(spec, mounts=(*(one for one in spec.mounts if one.source != bait.given), *shown))


def _writable(spec: Spec, path: str) -> Spec:
    return replace(spec, mounts=tuple(replace(one, writable=one.writable or one.source == path) for one in spec.mounts))


def _raised(limits: Limits) -> Limits:
    assert limits.cpu_s is not None
    return Limits(
        memory_bytes=8 * limits.memory_bytes,  # processes cost some as well, in gVisor's kernel much
        pids=4 * limits.pids,
        cpu_s=4 * limits.cpu_s,
        files=4 * limits.files,
        tmp_bytes=4 * limits.tmp_bytes,
        file_bytes=4 * limits.file_bytes,
    )


# ---- by what is asked of the engine --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited(Engine):
    """An engine that is asked for a softer container than the driver wants."""

    edit: Callable[[dict[str, Any]], None]

    @override
    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, Any] | None = None,
        timeout_s: float = CALL_S,
    ) -> Any:
        if path == "/containers/create":
            assert isinstance(body, dict)
            self.edit(body)
        return await Engine.call(self, method, path, body, query=query, timeout_s=timeout_s)


def _unfiltered(body: dict[str, Any]) -> None:
    body["HostConfig"]["SecurityOpt"] = ["no-new-privileges", "seccomp=unconfined"]


CAPABILITIES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
    "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
)
"""By number, as linux/capability.h has them, as far as Docker 20.10 knows them; SYS_ADMIN implies the later ones."""


def _capabilities() -> list[str]:
    """All that this machine's root has: `--privileged` would ask for more, and not start where one is missing."""
    status = Path("/proc/self/status").read_text()
    bound = int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES.split()) if bound >> number & 1]


def _privileged(body: dict[str, Any]) -> None:
    body |= {"User": "0:0", "NetworkDisabled": False}
    body["HostConfig"] |= {
        "CapDrop": [],
        "CapAdd": _capabilities(),
        "DeviceCgroupRules": ["a *:* rwm"],
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "SecurityOpt": ["seccomp=unconfined"],
        "ReadonlyRootfs": False,
        "NetworkMode": "host",
    }
    body["HostConfig"]["Mounts"].append({"Type": "bind", "Source": "/sys", "Target": "/sys"})


EDITS: Final[Mapping[str, Callable[[dict[str, Any]], None]]] = {
    "filter": _unfiltered,
    "privileges": _privileged,
    "processes": lambda body: body["HostConfig"].update(PidMode="host"),
    "ipc": lambda body: body["HostConfig"].update(IpcMode="host", ShmSize=0),
}


# ---- no sandbox ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Starts a program as it is, with an environment that has a secret and a descriptor that somebody forgot."""

    canary: str
    secret: str

    async def start(self, spec: Spec) -> "Child":
        forgotten = os.open(self.canary, os.O_RDWR)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                str(UID),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(forgotten,),
                env={"PATH": "/usr/bin:/bin", "TOKEN": self.secret},
                cwd="/tmp",
                limit=1 << 20,
            )
        finally:
            os.close(forgotten)
        return Child(process=process)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child process, and an end that reaches it alone."""

    process: asyncio.subprocess.Process

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        assert self.process.stderr is not None
        return self.process.stderr

    async def wait(self) -> int:
        return await self.process.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
