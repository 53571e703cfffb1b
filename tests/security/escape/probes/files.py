"""Files of the host: by path, by link, by handle, by other processes' eyes, and through what was mounted."""

import ctypes
import os
import stat
import struct
import time
from contextlib import suppress

from security.escape.probes.table import Bait, become_root_of, call, probe

REMOUNT, BIND = 32, 4096


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


@probe("root-written", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    return append("/written", "root-written")
