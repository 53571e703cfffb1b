"""Devices, /proc, /sys, and what other processes have: their environments, roots, descriptors and shared memory."""

import ctypes
import os
import stat
from contextlib import suppress

from security.escape.probes.files import BIND, REMOUNT, append, read
from security.escape.probes.table import Bait, call, probe

CONTROLLERS = ("memory", "pids", "cpu", "devices", "freezer", "rdma", "systemd", ".", "unified")


@probe("device-node-anywhere", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return opens_node(1, 3)


def opens_node(major: int, minor: int) -> str:
    """Makes a node where one can be opened, and opens it; nothing is read.

    Raises:
        OSError: nowhere.
    """
    refused = OSError("nowhere")
    for folder in ("/tmp", "/dev/shm", "/dev", "/"):
        path = os.path.join(folder, f"node-{major}-{minor}")
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            refused = error
        else:
            return f"made {path}, and opened it"
    raise refused


@probe("devices-of-the-machine", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str | None:
    """Opened, never read."""
    there = []
    names = ("kmsg", "mem", "port", "kvm", "fuse", "net/tun", "loop-control", "vda", "sda", "nvme0n1", "vhost-net")
    for name in names:
        with suppress(OSError):
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
            there.append(name)
    for name, (major, minor) in {"mem": (1, 1), "kmsg": (1, 11), "loop-control": (10, 237), "fuse": (10, 229)}.items():
        with suppress(OSError):
            opens_node(major, minor)
            there.append(name)
    return ", ".join(there) or None


def _for_writing(bait: Bait, *paths: str) -> str:
    """The first that opens for writing. Nothing is written: these may be the host's."""
    for path in ("/sys", "/proc/sys", *(f"/sys/fs/cgroup/{kind}" for kind in CONTROLLERS)):
        with suppress(OSError):  # as whoever may mount would begin; it changes its own view only
            call(bait, "mount", b"none", path.encode(), None, REMOUNT | BIND, None)
    refused = OSError("none is there")
    for path in paths:
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as error:
            refused = error
        else:
            return f"{path} is open for writing"
    raise refused


@probe("proc-sys-core-pattern", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return _for_writing(bait, "/proc/sys/kernel/core_pattern")


@probe("proc-sysrq-trigger", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return _for_writing(bait, "/proc/sysrq-trigger")


@probe("proc-sys-of-memory", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return _for_writing(bait, "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory")


@probe("sys-uevent-helper", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return _for_writing(bait, "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled")


@probe("cgroup-release-agent", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    names = ("release_agent", "cgroup.procs", "tasks")
    return _for_writing(bait, *(f"/sys/fs/cgroup/{kind}/{name}" for kind in CONTROLLERS for name in names))


@probe("proc-kcore", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    os.close(os.open("/proc/kcore", os.O_RDONLY))
    return "open for reading"


def _of_every_process(name: str) -> str | None:
    found = ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            found += "".join(line for line in read(f"/proc/{pid}/{name}").split("\0") if "secret-" in line)
    return found or None


@probe("environments-of-processes", stopped_by="processes")
def _(bait: Bait) -> str | None:
    return _of_every_process("environ")


@probe("environment-of-the-first-process", stopped_by="sandbox")
def _(bait: Bait) -> str | None:
    """The first process inside was started by the gateway, which has secrets in its environment."""
    seen = str(dict(os.environ))
    for pid in (1, os.getppid()):
        with suppress(OSError):
            seen += read(f"/proc/{pid}/environ")
    return seen if "secret-" in seen else None


@probe("command-lines-of-processes", stopped_by="processes")
def _(bait: Bait) -> str | None:
    return _of_every_process("cmdline")


@probe("root-of-another-process", stopped_by="processes")
def _(bait: Bait) -> str:
    return read(f"/proc/{bait.victim}/root{bait.canary}")


@probe("root-of-the-first-process", stopped_by="mounts")
def _(bait: Bait) -> str:
    return read(f"/proc/1/root{bait.canary}")


@probe("folder-of-another-process", stopped_by="processes")
def _(bait: Bait) -> str:
    return read(f"/proc/{bait.victim}/cwd/canary")


@probe("descriptors-of-another-process", stopped_by="processes")
def _(bait: Bait) -> str:
    return "".join(read(f"/proc/{bait.victim}/fd/{number}") for number in (0,))


@probe("descriptors-inherited", stopped_by="sandbox")
def _(bait: Bait) -> str | None:
    """Whatever whoever started us forgot to close, read as it is and opened anew with more rights."""
    found = ""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISREG(os.stat(f"/proc/self/fd/{name}").st_mode):
                found += os.pread(int(name), 4096, 0).decode(errors="replace")
                append(f"/proc/self/fd/{name}", "descriptors-inherited")
    return found if "secret-" in found else None


@probe("shared-memory-file-of-the-host", stopped_by="sandbox")
def _(bait: Bait) -> str:
    return read(bait.shm_file)


@probe("shared-memory-of-the-host", stopped_by="ipc")
def _(bait: Bait) -> str:
    segment = call(bait, "shmget", bait.shm_key, 0, 0)
    place = call(bait, "shmat", segment, None, 0o10000)  # read-only
    return ctypes.string_at(place).decode()
