"""What the guest is told to run: a program of system calls that builds the sandbox and becomes the one asked for.

(1) fresh randomness and the time: a clone woke up with its siblings' state of both
(2) the file system, with /proc, /dev and /tmp of the guest's own
(3) limits: a control group for all together, and each process's
(4) an unprivileged user without capabilities, behind the system call filter; then the program
"""

import os
import resource
import secrets
import stat
import struct
import time
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from sandbox.mounts import environment
from sandbox.spec import Limits, Mount, Spec
from sandbox.vm.calls import Calls, cstring
from sandbox.vm.guest import CONSTANT, DEVICES, FRESH, GROUP, OUTLET, ROOT

_RNDADDENTROPY: Final = 0x40085203
_RNDRESEEDCRNG: Final = 0x5207
_SEED_BYTES: Final = 64

_NOSUID, _NODEV, _NOEXEC, _REMOUNT_BIND, _BIND, _REC = 2, 4, 8, 32 | 4096, 4096, 16384
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 24, 38, 22, 2
_CAPABILITIES: Final = 64
_CLOSE_ON_EXEC: Final = 4
_INSTRUCTION_BYTES: Final = 8

_TMP: Final = "/tmp"  # noqa: S108  # the sandbox's own

_TRANSPORT: Final = "trans=virtio,version=9p2000.L,msize=512000,access=client"
_CONSTANT: Final = f"{_TRANSPORT},cache=loose"
"""Programs and libraries do not change while they run: what was read once is kept, names included."""
_FRESH: Final = f"{_TRANSPORT},cache=mmap"
"""Contents are asked of the host at each read, so that changes made there are seen, and written at once; only what is
mapped into memory is kept."""


def program(spec: Spec, *, constant: Collection[Mount], uid: int, seccomp: bytes, with_outlet: bool) -> bytes:
    """The file to send.

    Args:
        constant: those of the mounts that do not change while it runs.
        uid: whom it runs as; whom the host's files see at work, too.
        seccomp: the filter, as the kernel takes it.
        with_outlet: whether it inherits the outlet's port.
    """
    calls = Calls()
    kept = OUTLET if with_outlet else 1 << 16
    calls.call("close_range", 3, kept - 1, 0)
    calls.call("close_range", kept + 1, 0xFFFFFFFF, 0)
    _renew(calls)  # (1)
    _mount(calls, spec, constant)  # (2)
    _limit(calls, spec.limits)  # (3)
    _drop(calls, spec, uid, seccomp)  # (4)
    return calls.become(spec.argv, environment(spec))


def _renew(calls: Calls) -> None:
    seed = secrets.token_bytes(_SEED_BYTES)
    now = time.time_ns()
    calls.call("open", cstring("/dev/urandom"), os.O_WRONLY, 0, failing="urandom")
    calls.call("ioctl", 3, _RNDADDENTROPY, struct.pack("<ii", 8 * len(seed), len(seed)) + seed, failing="seed")
    calls.call("ioctl", 3, _RNDRESEEDCRNG, 0, failing="reseed")
    calls.call("close", 3)
    calls.call("clock_settime", time.CLOCK_REALTIME, struct.pack("<qq", *divmod(now, 10**9)))


def _mount(calls: Calls, spec: Spec, constant: Collection[Mount]) -> None:
    def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        words = (cstring(source), cstring(target), cstring(kind), flags, cstring(options))
        calls.call("mount", *words, failing=f"mount {target.removeprefix(ROOT) or '/'}")

    mount(CONSTANT, f"/run/{CONSTANT}", "9p", _NOSUID | _NODEV, _CONSTANT)
    mount(f"/run/{CONSTANT}", ROOT, "", _BIND)
    if not all(mount in constant for mount in spec.mounts):
        mount(FRESH, f"/run/{FRESH}", "9p", _NOSUID | _NODEV, _FRESH)
    mount("proc", f"{ROOT}/proc", "proc", _NOSUID | _NODEV | _NOEXEC, "hidepid=invisible")
    mount(DEVICES, f"{ROOT}/dev", "", _BIND | _REC)
    mount("tmp", f"{ROOT}{_TMP}", "tmpfs", _NOSUID | _NODEV, f"mode=1777,size={spec.limits.tmp_bytes}")
    for shown in sorted(spec.mounts, key=lambda mount: len(PurePosixPath(mount.target).parts)):
        is_covered = PurePosixPath(_TMP) in PurePosixPath(shown.target).parents
        if is_covered:
            _make_point(calls, shown)
        if is_covered or shown not in constant:
            mount(f"/run/{CONSTANT if shown in constant else FRESH}{shown.target}", f"{ROOT}{shown.target}", "", _BIND)


def _make_point(calls: Calls, shown: Mount) -> None:
    """In the guest's own /tmp, which covers what the host has there."""
    target = PurePosixPath(shown.target)
    folders = [folder for folder in reversed(target.parents) if PurePosixPath(_TMP) in folder.parents]
    if os.path.isdir(shown.source):
        folders.append(target)
    else:
        calls.try_call("mknod", cstring(f"{ROOT}{target}"), stat.S_IFREG | 0o644, 0)
    for folder in folders:
        calls.try_call("mkdir", cstring(f"{ROOT}{folder}"), 0o755)


def _limit(calls: Calls, limits: Limits) -> None:
    calls.write_file(f"{GROUP}/memory.max", b"%d" % limits.memory_bytes)
    calls.write_file(f"{GROUP}/pids.max", b"%d" % limits.pids)
    calls.write_file(f"{GROUP}/cgroup.procs", b"0")
    each = {resource.RLIMIT_NOFILE: limits.files, resource.RLIMIT_FSIZE: limits.file_bytes, resource.RLIMIT_CORE: 0}
    if limits.cpu_s is not None:
        each[resource.RLIMIT_CPU] = limits.cpu_s
    for kind, most in each.items():
        calls.call("setrlimit", kind, struct.pack("<QQ", most, most), failing="limit")


def _drop(calls: Calls, spec: Spec, uid: int, seccomp: bytes) -> None:
    calls.call("chroot", cstring(ROOT))
    calls.call("chdir", cstring(spec.cwd), failing=f"no folder {spec.cwd}")
    calls.call("umask", 0o022)
    calls.call("setsid", failing="session")
    for capability in range(_CAPABILITIES):
        calls.try_call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)  # the last that a kernel knows varies
    calls.call("setgroups", 0, 0)
    calls.call("setresgid", uid, uid, uid)
    calls.call("setresuid", uid, uid, uid)  # leaving uid 0 clears every capability
    calls.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, failing="privileges")
    instructions = calls.place(seccomp)
    filter_program = struct.pack("<HxxxxxxQ", len(seccomp) // _INSTRUCTION_BYTES, instructions)
    calls.call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_program, 0, 0, failing="filter")
