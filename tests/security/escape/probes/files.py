"""Files of the host: by path, by link, by handle, by other processes' eyes, and through what was mounted."""

import ctypes
import os
import stat
import struct
import time
from contextlib import suppress

from security.escape.probes.table import Bait, become_root_of, call, probe

REMOUNT, BIND = 32, 4096
CONTROLLERS = ("memory", "pids", "cpu", "devices", "freezer", "rdma", "systemd", ".", "unified")


def read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read(4096)


def append(path: str, text: str) -> str:
    with open(path, "a") as file:
        file.write(f"\n{text}\n")
    return f"wrote to {path}"


@probe("file-by-its-path", stopped_by="mounts")
def _(bait: Bait) -> str:
    return read(bait.canary)


@probe("file-by-climbing", stopped_by="mounts")
def _(bait: Bait) -> str:
    os.chdir(bait.given)
    return read("../" * 32 + bait.canary.lstrip("/"))


@probe("file-by-climbing-from-a-descriptor", stopped_by="mounts")
def _(bait: Bait) -> str:
    folder = os.open(bait.given, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open("../canary", os.O_RDONLY, dir_fd=folder)
    return os.read(file, 4096).decode()


@probe("file-in-the-parent-of-a-mount", stopped_by="mounts")
def _(bait: Bait) -> str | None:
    parent = os.path.dirname(bait.given)
    others = [name for name in os.listdir(parent) if name != os.path.basename(bait.given)]
    return "".join(read(f"{parent}/{name}") for name in others if name == "canary") or None


@probe("file-through-a-link", stopped_by="mounts")
def _(bait: Bait) -> str:
    link = f"{bait.box}/link"
    with suppress(FileExistsError):
        os.symlink(bait.canary, link)
    try:
        return read(link)
    finally:
        os.unlink(link)


@probe("file-through-a-link-swapped-in-the-meantime", stopped_by="mounts")
def _(bait: Bait) -> str | None:
    """A reader that looks before it opens, and a neighbour that changes the name in between."""
    name, innocent, link = f"{bait.box}/swapped", f"{bait.box}/innocent", f"{bait.box}/towards"
    append(innocent, "nothing of interest")
    os.symlink(bait.canary, link)
    ends = time.monotonic() + 0.8
    swapper = os.fork()
    if swapper == 0:
        while time.monotonic() < ends:
            for source in (innocent, link):
                with suppress(OSError):
                    os.link(source, f"{name}.new", follow_symlinks=False)
                    os.replace(f"{name}.new", name)
        os._exit(0)
    got = ""
    while time.monotonic() < ends and "secret" not in got:
        with suppress(OSError):
            if stat.S_ISREG(os.stat(name).st_mode):
                got = read(name)
    os.waitpid(swapper, 0)
    for path in (name, innocent, link, f"{name}.new"):
        with suppress(OSError):
            os.unlink(path)
    return got if "secret" in got else None


@probe("file-through-a-hard-link", stopped_by="mounts")
def _(bait: Bait) -> str:
    os.link(bait.canary, f"{bait.open}/hard-link")
    try:
        return append(f"{bait.open}/hard-link", "file-through-a-hard-link")
    finally:
        os.unlink(f"{bait.open}/hard-link")


@probe("file-written", stopped_by="mounts")
def _(bait: Bait) -> str:
    return append(bait.canary, "file-written")


@probe("file-made-beside-a-mount", stopped_by="mounts")
def _(bait: Bait) -> str:
    return append(f"{bait.open}/made", "file-made-beside-a-mount")


@probe("file-of-another-user", stopped_by="mounts")
def _(bait: Bait) -> str:
    return read(bait.private)


@probe("mount-written-though-read-only", stopped_by="read-only")
def _(bait: Bait) -> str:
    return append(f"{bait.given}/note", "mount-written-though-read-only")


@probe("mount-truncated-though-read-only", stopped_by="read-only")
def _(bait: Bait) -> str:
    os.truncate(f"{bait.given}/short", 0)
    return append(f"{bait.given}/short", "mount-truncated-though-read-only")


@probe("mount-made-writable-again", stopped_by="privileges")
def _(bait: Bait) -> str:
    for fresh in (False, True):
        if fresh:
            become_root_of(bait, "mount")
        with suppress(OSError):
            call(bait, "mount", b"none", bait.given.encode(), None, REMOUNT | BIND, None)
            break
    return append(f"{bait.given}/note", "mount-made-writable-again")


@probe("file-by-its-handle", stopped_by="privileges")
def _(bait: Bait) -> str:
    """Shocker: a handle needs no path, so no mount hides it."""
    kind, content = int(bait.handle[:8], 16), bytes.fromhex(bait.handle[8:])
    handle = ctypes.create_string_buffer(struct.pack("<Ii", len(content), kind) + content)
    mount = os.open(bait.box, os.O_RDONLY)
    file = call(bait, "open_by_handle_at", mount, handle, os.O_RDONLY)
    return os.read(file, 4096).decode()


@probe("setuid-file-in-a-mount", stopped_by="filter")
def _(bait: Bait) -> str:
    path = f"{bait.box}/setuid-file-in-a-mount"
    append(path, "#!/bin/sh")
    os.chmod(path, 0o4755)
    return oct(os.stat(path).st_mode)


@probe("setgid-file-in-a-mount-as-it-is-made", stopped_by="filter")
def _(bait: Bait) -> str:
    os.umask(0)
    file = os.open(f"{bait.box}/setgid-file-in-a-mount-as-it-is-made", os.O_CREAT | os.O_WRONLY, 0o2755)
    return oct(os.fstat(file).st_mode)


@probe("setuid-file-by-an-older-call", stopped_by="filter")
def _(bait: Bait) -> str:
    path = f"{bait.box}/setuid-file-by-an-older-call"
    os.umask(0)
    call(bait, "mknodat", -100, path.encode(), stat.S_IFREG | 0o4755, 0)
    return oct(os.stat(path).st_mode)


@probe("file-with-capabilities-in-a-mount", stopped_by="privileges")
def _(bait: Bait) -> str:
    path = f"{bait.box}/file-with-capabilities-in-a-mount"
    append(path, "#!/bin/sh")
    version_2 = struct.pack("<IIIII", 0x02000001, 0x3FFFFFFF, 0, 0, 0)
    os.setxattr(path, "security.capability", version_2)
    return "marked"


@probe("device-node-in-a-mount", stopped_by="privileges")
def _(bait: Bait) -> str:
    os.mknod(f"{bait.box}/device-node-in-a-mount", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return "made"


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


@probe("root-written", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return append("/written", "root-written")


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
