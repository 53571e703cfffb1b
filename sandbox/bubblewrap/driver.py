"""The bubblewrap driver: namespaces, a system call filter and limits, for programs that run as an unprivileged uid.

    start   (1) the filter, the arguments and a minimal /etc go into memory files: nothing secret stands in an argv
            (2) as root, `launch.py` becomes nobody first; else bubblewrap is started as it is
            (3) bubblewrap names the first process inside and holds it; it joins its memory group
            (4) it is let go, limits itself and becomes the program

Start sandboxes from a thread that lives as long as they do: the kernel ends them with the thread that started them.
"""

import asyncio
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sandbox.bubblewrap import launch, view
from sandbox.bubblewrap.binary import Bind, copies, find_binary
from sandbox.bubblewrap.cgroup import DELEGATE, Group, Groups, find_groups
from sandbox.bubblewrap.mends import mend_for
from sandbox.bubblewrap.session import BubblewrapSession
from sandbox.driver import KERNEL, Capabilities, Outlet
from sandbox.egress import forwarder
from sandbox.errors import SandboxError
from sandbox.mounts import checked
from sandbox.probe import verify
from sandbox.runtime import resolve
from sandbox.seccomp import assemble, load_rules
from sandbox.spec import Mount, Spec

SANDBOX_UID: Final = 65534
"""As root: who sandboxes are, unless a writable mount belongs to another user than root."""

START_S: Final = 10.0
"""How long bubblewrap may take to name its first process."""

STREAM_BYTES: Final = 1 << 20
"""What a stream buffers before the program has to wait."""

OUTER_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin"}
"""bubblewrap's own; the sandbox sees it in /proc/1/environ."""

SHARED: Final = "it shares the host's kernel: use the driver gvisor or vm."

WATCHED: Final = "memory is watched several times a second, not held by a control group: a burst may pass the limit."


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An emulator to run in a sandbox, with a guest of its own."""

    spec: Spec
    """Its program, a path of the host's, and its own limits. It has no mounts, image or network."""
    lent: tuple[int, ...]
    """Descriptors that it inherits, under the same numbers."""
    devices: tuple[str, ...] = ()
    """Devices of the host that it may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubblewrap:
    """Starts programs under bubblewrap; found once, used for every start."""

    binary: Path
    filter: bytes = field(repr=False)
    groups: Groups | None
    """None: each process's data is limited, and their sum watched (`watch.py`)."""
    as_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    name: str = "bubblewrap"

    @classmethod
    def find(cls, *, grouped: bool = True) -> "Bubblewrap":
        """The driver for this machine, not yet proven to work: that is `probe`.

        Args:
            grouped: whether to look for control groups.

        Raises:
            SandboxError: there is no bubblewrap, or no filter for this processor.
        """
        groups = find_groups() if grouped else None
        try:
            program = assemble(load_rules(), counted=groups is not None)
        except KeyError as unknown:
            raise SandboxError("seccomp", f"no filter for {unknown}", "Run on x86_64 or aarch64.") from unknown
        return cls(binary=find_binary(), filter=program, groups=groups)

    async def probe(self) -> Capabilities:
        found = await verify(self, mend_for)
        found = replace(found, why_not={**found.why_not, KERNEL: SHARED})
        return found if self.groups else replace(found, notes=(*found.notes, f"{WATCHED} {DELEGATE}"))

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> BubblewrapSession:
        spec = spec if spec.image else resolve(spec)
        checked(spec.mounts)
        try:
            return await (self._start(spec) if outlet is None else self._start_with(outlet, spec))
        except OSError as failed:
            raise SandboxError("launch", str(failed), mend_for(str(failed))) from failed

    async def _start_with(self, outlet: Outlet, spec: Spec) -> BubblewrapSession:
        """The forwarder comes first, listens, leaves a child that has the stream, and becomes the program, which has
        not. It is one process, and some 10 MB, of the sandbox's own limits."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=STREAM_BYTES)
        with ExitStack() as unless_started, theirs:
            unless_started.callback(writer.close)
            spec, python = forwarder.equipped(spec)
            number = str(theirs.fileno())
            argv = (*forwarder.command(python, number, number), *spec.argv)
            session = await self._start(replace(spec, argv=argv), lent=(theirs.fileno(),))
            unless_started.pop_all()
        session.attending = asyncio.create_task(forwarder.attend(outlet, reader, writer), name="sandbox outlet")
        return session

    async def enclose(self, spec: Spec, machine: Machine) -> BubblewrapSession:
        """Run a machine whose guest is to see, beneath `view.GUEST`, what a sandbox of `spec` would.

        Raises:
            SandboxError: it could not be started, and why.
        """
        checked(spec.mounts)
        try:
            return await self._start(spec, machine.lent, machine)
        except OSError as failed:
            raise SandboxError("launch", str(failed), mend_for(str(failed))) from failed

    def uid(self, spec: Spec) -> int:
        """Whom the host's files see at work in a sandbox of `spec`."""
        return _uid(spec.mounts) if self.as_root else os.geteuid()

    async def _start(self, spec: Spec, lent: tuple[int, ...] = (), machine: Machine | None = None) -> BubblewrapSession:
        memory_bytes = (machine.spec if machine else spec).limits.memory_bytes
        with ExitStack() as ours, ExitStack() as given, ExitStack() as after:
            info, info_theirs = os.pipe()
            hold_theirs, hold = os.pipe()
            for stack, descriptor in ((ours, info), (ours, hold), (given, info_theirs), (given, hold_theirs)):
                stack.callback(os.close, descriptor)
            group = self._group(memory_bytes)
            if group is not None:
                after.callback(group.remove)

            command, passed = self._command(spec, machine, given, info=info_theirs, hold=hold_theirs)
            passed += lent
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=passed,
                env=OUTER_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                limit=STREAM_BYTES,
            )
            given.close()
            try:
                first = await _first_inside(process, info)  # (3)
                init = os.pidfd_open(first)
            except BaseException:
                await _abandon(process)
                raise
            session = BubblewrapSession(process=process, init=init, after=after.pop_all())
            try:
                await session.limit_memory(first, group, memory_bytes)
            except BaseException:
                session.kill()
                await session.wait()
                raise
            os.write(hold, b"x")  # (4)
            return session

    def _command(
        self, spec: Spec, machine: Machine | None, given: ExitStack, *, info: int, hold: int
    ) -> tuple[list[str], list[int]]:
        """What to execute, and the descriptors that it is given; the memory files among them close with `given`."""
        passed = [info, hold]

        def memory_file(content: bytes) -> int:
            passed.append(_memory_file(given, content))
            return passed[-1]

        uid = self.uid(spec)
        stands, binds = copies(self.binary, launch.STAGE) if self.as_root else (str(self.binary), [])
        sources = [mount.source for mount in spec.mounts]
        if self.as_root:
            sources = [f"{launch.STAGE}/mount{i}" for i in range(len(spec.mounts))]
            binds += [_bind(mount, source, uid) for mount, source in zip(spec.mounts, sources, strict=True)]
        image = spec.image.root if spec.image else ""
        if spec.image and self.as_root:
            image = f"{launch.STAGE}/image"
            binds.append((spec.image.root, image, None))
        etc = {path: memory_file(text.encode()) for path, text in _etc(spec, uid).items()}  # (1)
        if machine is None:
            options = view.options(spec, sources=sources, files=etc, image=image)
        else:
            options = view.enclosing(spec, machine.spec, machine.devices, sources=sources, files=etc, image=image)
        command = [stands, "--info-fd", str(info), "--block-fd", str(hold)]
        command += ["--add-seccomp-fd", str(memory_file(self.filter))]
        command += ["--args", str(memory_file("\0".join(options).encode()))]
        command += ["--", *view.command(machine.spec if machine else spec, limit_data=self.groups is None)]
        if self.as_root:  # (2)
            groups = _groups_of(machine.devices) if machine else []
            plan = {"uid": uid, "groups": groups, "binds": binds, "argv": command, "env": OUTER_ENVIRONMENT}
            told = memory_file(json.dumps(plan).encode())
            command = [sys.executable, "-I", "-S", "-B", launch.__file__, str(told)]
        return command, passed

    def _group(self, memory_bytes: int) -> Group | None:
        if self.groups is None:
            return None
        try:
            return self.groups.make(memory_bytes)
        except OSError as refused:
            raise SandboxError("memory", f"no control group: {refused.strerror}", DELEGATE) from refused


def hand_over(folder: Path) -> None:
    """Give a folder of the gateway's, with all in it, to the sandboxes' uid. Does nothing unless root.

    Needed only where the file system cannot map owners (overlay, as in containers). Not while a sandbox writes there:
    it could put a link in the way.
    """
    if os.geteuid() != 0:
        return
    for parent, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, SANDBOX_UID, SANDBOX_UID, dir_fd=descriptor, follow_symlinks=False)
        if Path(parent) == folder:
            os.fchown(descriptor, SANDBOX_UID, SANDBOX_UID)


def _uid(mounts: Sequence[Mount]) -> int:
    """As root: the uid to become. The one user besides root whose folders it writes to, else nobody."""
    owners = {os.stat(mount.source).st_uid for mount in mounts if mount.writable}
    return owners.pop() if len(owners) == 1 and 0 not in owners else SANDBOX_UID


def _groups_of(devices: Sequence[str]) -> list[int]:
    """The groups that these devices are there for; root's is none."""
    return sorted({os.stat(device).st_gid for device in devices} - {0})


def _bind(mount: Mount, target: str, uid: int) -> Bind:
    """Its owner stands for the sandbox if it belongs to somebody else and is to be written to, or is private.

    Whoever mounts a private folder means its contents to be read, also those that its owner alone could read.
    """
    found = os.stat(mount.source)
    is_open = found.st_mode & 0o005 == 0o005 or (not stat.S_ISDIR(found.st_mode) and found.st_mode & 0o004)
    is_reached = found.st_uid == uid or (is_open and not mount.writable)
    return mount.source, target, None if is_reached else (found.st_uid, found.st_gid)


def _etc(spec: Spec, uid: int) -> Mapping[str, str]:
    """The little of /etc that programs ask for and that says nothing of the host."""
    etc = {
        "/etc/passwd": f"sandbox:x:{uid}:{os.getegid() or uid}:sandbox:/tmp:/bin/sh\n",
        "/etc/group": f"sandbox:x:{os.getegid() or uid}:\n",
    }
    if spec.network == "none":
        etc["/etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n"
    return etc


def _memory_file(closes: ExitStack, content: bytes) -> int:
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    closes.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


async def _first_inside(process: asyncio.subprocess.Process, info: int) -> int:
    """The first process inside, as bubblewrap tells it.

    Raises:
        SandboxError: bubblewrap, or the launch before it, ended without telling.
    """
    try:
        async with asyncio.timeout(START_S):
            told = await _read_all(info)
            if named := re.search(rb'"child-pid":\s*(\d+)', told):
                return int(named[1])
            assert process.stderr is not None
            said = (await process.stderr.read()).decode(errors="replace").strip()
    except TimeoutError:
        said = f"no answer in {START_S:.0f} seconds"
    raise SandboxError("bubblewrap", said or "ended without a word", mend_for(said))


async def _read_all(descriptor: int) -> bytes:
    loop, ended, told = asyncio.get_running_loop(), asyncio.Event(), bytearray()

    def read() -> None:
        if part := os.read(descriptor, 4096):
            told.extend(part)
        else:
            ended.set()

    loop.add_reader(descriptor, read)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
    return bytes(told)


async def _abandon(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
