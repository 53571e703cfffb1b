"""The kernel's riskier doors. What would change the machine is asked for in a way that fails after the check of rights.

So, where the rights are there, the answer is a complaint about the arguments; nothing is loaded, set or restarted.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import pty
import signal
import struct
import termios
from collections.abc import Callable

from security.escape.probes.table import CLONE, Bait, become_root_of, call, libc, numbered, probe, reaches


def asks(name: str, title: str, *arguments: object, stopped_by: str = "filter") -> None:
    """Enter a probe that makes one call."""

    @probe(title, stopped_by=stopped_by, judged="kernel")
    def _(bait: Bait) -> str | None:
        return reaches(bait, name, *arguments)


def gets(name: str, title: str, *arguments: object, stopped_by: str = "filter") -> None:
    """The same, where only success counts."""

    @probe(title, stopped_by=stopped_by, judged="kernel")
    def _(bait: Bait) -> str:
        return f"{name} gave {call(bait, name, *arguments)}"


def _text(size: int) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(size)


_PERF = struct.pack("<IIQQQQQ", 1, 112, 1, 0, 0, 0, 0b1100000) + bytes(64)
_ARRAY_MAP = struct.pack("<IIII", 2, 4, 4, 1) + bytes(100)

gets("io_uring_setup", "io-uring", 1, _text(120))
gets("perf_event_open", "perf", _PERF, 0, -1, -1, 0)
gets("bpf", "bpf", 0, _ARRAY_MAP, 72, stopped_by="privileges")
gets("keyctl", "keyring-of-the-session", 0, -3, 1)
gets("add_key", "key-added", b"user", b"pratique-probe", b"x", 1, -1)
asks("request_key", "key-asked-for", b"user", b"pratique-none", None, 0)
gets("userfaultfd", "userfaultfd", 1)
gets("memfd_secret", "memory-that-nobody-counts", 0)
gets("personality", "address-randomisation-off", 0x0040000)
gets("modify_ldt", "segments", 0, _text(16), 16)
asks("iopl", "io-ports", 3, stopped_by="privileges")
gets("move_pages", "pages-moved", 0, 0, None, None, None, 0)
asks("migrate_pages", "pages-migrated", 0, 0, None, None)
asks("fanotify_init", "fanotify", 0x200, 0)
asks("name_to_handle_at", "handle-of-a-file", -100, b"/", _text(8), _text(8), 0)
asks("quotactl", "quotas", 0x800004 << 8, b"/nonexistent", 0, None)
asks("lookup_dcookie", "profiling-cookie", 0, _text(8), 8)

asks("syslog", "kernel-log", 10, None, 0, stopped_by="privileges")
asks("acct", "process-accounting", b"/nonexistent", stopped_by="privileges")
asks("swapon", "swap", b"/nonexistent", 0, stopped_by="privileges")
asks("reboot", "reboot", 0, 0, 0, None, stopped_by="privileges")
asks("kexec_load", "another-kernel", 0, 1 << 20, None, 0, stopped_by="privileges")
asks("kexec_file_load", "another-kernel-from-a-file", -1, -1, 0, b"", 1 << 20, stopped_by="privileges")
asks("init_module", "module", None, 0, b"", stopped_by="privileges")
asks("finit_module", "module-from-a-file", -1, b"", 0, stopped_by="privileges")
asks("delete_module", "module-removed", b"pratique_none", 0, stopped_by="privileges")
asks("sethostname", "hostname", _text(65), 65, stopped_by="privileges")
asks("setdomainname", "domain-name", _text(65), 65, stopped_by="privileges")


# ---- namespaces and mounts ---------------------------------------------------------------------------------------


def _unshares(kind: str) -> None:
    @probe(f"namespace-{kind}", stopped_by="filter", judged="kernel")
    def _(bait: Bait) -> str:
        call(bait, "unshare", CLONE["user"] | CLONE[kind])
        return f"a {kind} namespace of its own"


for _kind in CLONE:
    _unshares(_kind)


@probe("namespace-by-clone", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    child = call(bait, "clone", CLONE["user"] | signal.SIGCHLD, 0, 0, 0, 0)
    return _born(child)


@probe("namespace-by-clone3", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    wanted = ctypes.create_string_buffer(struct.pack("<11Q", CLONE["user"], 0, 0, 0, signal.SIGCHLD, *[0] * 6))
    return _born(call(bait, "clone3", wanted, 88))


def _born(child: int) -> str:
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "a child in a user namespace of its own"


@probe("namespace-entered", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    become_root_of(bait, "uts")
    call(bait, "setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)
    return "entered"


@probe("namespace-of-the-host-entered", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    call(bait, "setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)
    return "entered"


def _after_unshare(title: str, name: str, *arguments: object, only_success: bool = False) -> None:
    """With root's rights over fresh mounts if nothing stops it."""

    @probe(title, stopped_by="filter", judged="kernel")
    def _(bait: Bait) -> str | None:
        become_root_of(bait, "mount")
        if only_success:
            return f"{name} gave {call(bait, name, *arguments)}"
        return reaches(bait, name, *arguments)


_after_unshare("mount-of-memory", "mount", b"none", b"/tmp", b"tmpfs", 0, None, only_success=True)
_after_unshare("mount-bound-elsewhere", "mount", b"/usr", b"/tmp", None, 4096 | 16384, None, only_success=True)
_after_unshare("mount-removed", "umount2", b"/tmp", 2)
_after_unshare("mount-moved", "move_mount", -1, b"", -1, b"", 4)
_after_unshare("mount-by-the-newer-calls", "fsopen", b"tmpfs", 0, only_success=True)
_after_unshare("mount-tree-copied", "open_tree", -100, b"/", 0, only_success=True)
_after_unshare("mount-changed", "mount_setattr", -1, b"", 0x1000, _text(32), 32)
_after_unshare("mount-tree-by-a-call-newer-than-the-rules", "open_tree_attr", -100, b"/", 0, None, 0)
_after_unshare("root-changed", "chroot", b"/tmp", only_success=True)
_after_unshare("root-pivoted", "pivot_root", b"/tmp", b"/tmp")


# ---- other processes of the sandbox ------------------------------------------------------------------------------


def beside(act: Callable[[int], str]) -> str:
    """Do something to a sibling that waits."""
    sibling = os.fork()
    if sibling == 0:
        signal.pause()
    try:
        return act(sibling)
    finally:
        os.kill(sibling, signal.SIGKILL)
        os.waitpid(sibling, 0x40000000)  # __WALL: a traced one too


@probe("sibling-traced", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    seize = 0x4206
    return beside(lambda sibling: f"seized: {call(bait, 'ptrace', seize, sibling, 0, 0)}")


@probe("sibling-read", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return _copies(bait, "process_vm_readv")


@probe("sibling-overwritten", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return _copies(bait, "process_vm_writev")


def _copies(bait: Bait, name: str) -> str:
    held = ctypes.create_string_buffer(b"16 bytes of mine", 16)
    here = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(held), 16))
    return beside(lambda sibling: f"{call(bait, name, sibling, here, 1, here, 1, 0)} bytes")


@probe("sibling-robbed-of-a-descriptor", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return beside(lambda sibling: f"got {call(bait, 'pidfd_getfd', os.pidfd_open(sibling), 1, 0)}")


@probe("sibling-compared", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return beside(lambda sibling: f"compared: {call(bait, 'kcmp', os.getpid(), sibling, 2, 0, 0)}")


@probe("sibling-advised", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str | None:
    place = ctypes.create_string_buffer(struct.pack("<QQ", 0, 0))
    return beside(lambda sibling: str(reaches(bait, "process_madvise", os.pidfd_open(sibling), place, 1, 20, 0)))


# ---- rights ------------------------------------------------------------------------------------------------------


@probe("capabilities-held", stopped_by="privileges", judged="word")
def _(bait: Bait) -> str | None:
    with open("/proc/self/status") as status:
        held = [line.split() for line in status if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
    return next((f"{kind} {bits}" for kind, bits in held if int(bits, 16)), None)


@probe("root-become", stopped_by="privileges", judged="word")
def _(bait: Bait) -> str | None:
    os.setresuid(0, 0, 0)
    return "uid 0"


@probe("program-that-is-setuid", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str | None:
    """A copy of id(1), mode 4755, of root."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(tell, 1)
        os.execv(f"{bait.given}/id", ["id", "-u"])
    os.waitpid(child, 0)
    said = os.read(told, 100).decode().strip()
    return "it ran as root" if said == "0" else None


@probe("new-privileges-allowed", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str | None:
    return None if libc.prctl(39, *map(ctypes.c_ulong, (0, 0, 0, 0))) == 1 else "may gain rights by executing"


# ---- ways round a filter -----------------------------------------------------------------------------------------


@probe("calls-by-foreign-numbers", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str | None:
    """i386 has other numbers: a filter that looks at numbers alone lets 32-bit code do as it likes."""
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "no second set of calls on this processor")
    getpid = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(getpid)
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return "it has a number" if run() == os.getpid() else None


@probe("calls-of-x32", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return f"it is {numbered(0x40000000 | bait.numbers['getpid'])}"


@probe("calls-newer-than-the-rules", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str | None:
    """getxattrat(2), of Linux 6.13: harmless, but nobody has read the next one."""
    try:
        numbered(464, -100, b"/", 0, b"user.none", None, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise
    return "it was looked at"


def _types(request: int) -> str:
    """Types into a terminal of its own, as if a person did."""
    _, end = pty.openpty()
    libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
    child = os.fork()  # the head of a process group cannot have a terminal of its own
    if child == 0:
        os.setsid()
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)
        os._exit(0 if libc.ioctl(end, request, b"x") == 0 else ctypes.get_errno())
    error = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if error == errno.EIO:
        return "the terminal looked at it: only a setting of this kernel is against it"
    if error:
        raise OSError(error, os.strerror(error))
    return "typed"


@probe("typing-into-a-terminal", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return _types(0x5412)


@probe("typing-with-high-bits-set", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    """The kernel reads 32 bits of the request; a filter that compares 64 is passed by."""
    return _types(0x5412 | 1 << 32)
