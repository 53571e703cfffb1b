"""What is laid out on the host to be reached, and what was done to it.

Permissions keep none of it (but one file, which is another user's): whatever is not reached, the walls kept.
"""

import ctypes
import json
import os
import secrets
import shutil
import signal
import sqlite3
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

from security.escape.island import Listeners, listeners
from security.escape.probes.table import Bait

from sandbox.spec import MIB, Limits

UID: Final = 65534
ANOTHER: Final = 1234
PROBES_FROM: Final = Path(__file__).parents[2]
LIMITS: Final = Limits(memory_bytes=128 * MIB, pids=32, cpu_s=3, files=64, tmp_bytes=2 * MIB, file_bytes=8 * MIB)
CPU_S: Final = {"vm": 8}
"""Where the processor is emulated, whoever starts the probes needs more of it itself."""
LOOSER: Final = {"gvisor": 1.8}
"""Processes it lets through for each that is allowed: it looks at that limit now and then only."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """One sandbox's bait."""

    bait: Bait
    root: Path
    limits: Limits
    secret: str
    """What every secret of it starts with."""
    listening: Listeners
    victim: "subprocess.Popen[bytes]"
    before: Mapping[str, object]

    @property
    def program(self) -> str:
        """The folder that holds the probes, for the sandbox to run."""
        return f"{self.root}/program"

    def as_argument(self) -> str:
        return json.dumps(asdict(self.bait))

    def landed(self) -> dict[str, str]:
        """Probes that had an effect, and which; what nobody signed is under its own name."""
        found = self.listening.heard()
        for path in _signed(self.bait):
            found |= dict.fromkeys(_signatures(path), f"wrote {path}")
        found |= {entry.name: what for entry in os.scandir(self.bait.box) if (what := _odd(entry.path))}
        found |= dict.fromkeys(_signatures(f"{self.root}/heard"), "signalled a process of the host")
        if self.victim.poll() is not None:
            found["victim"] = f"ended with {self.victim.returncode}"
        elif os.getpriority(os.PRIO_PROCESS, self.victim.pid):
            found["process-of-the-host-slowed"] = "its priority fell"
        if self.is_paused():
            found["process-of-the-host-paused"] = "stopped it"
        now = _settings()
        return found | {name: f"was {was}, is {now[name]}" for name, was in self.before.items() if now[name] != was}

    def is_paused(self) -> bool:
        return Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def residue(self) -> list[str]:
        """Processes that still speak of this bait, and mounts that still hold it."""
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
                if str(self.root) in command and int(pid) not in (self.victim.pid, os.getpid()):
                    left.append(f"process {pid}: {command[:200]}")
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return left + [line for line in mounts if str(self.root) in line]


@contextmanager
def laid(engine: str, driver: str) -> Iterator[Laid]:
    """To be opened in the island."""
    limits = replace(LIMITS, cpu_s=CPU_S.get(driver, LIMITS.cpu_s))
    with ExitStack() as undo:
        root = Path(tempfile.mkdtemp(prefix="pratique-escape-", dir="/tmp"))
        undo.callback(shutil.rmtree, root)
        root.chmod(0o755)
        secret = f"secret-{secrets.token_hex(8)}"
        folder, box = root / "open", root / "box"
        _furnish(folder, secret)
        box.mkdir()
        os.chown(box, UID, UID)
        private = root / "private"
        private.write_text(f"{secret}-of-another-user\n")
        os.chown(private, ANOTHER, ANOTHER)
        private.chmod(0o600)
        shutil.copytree(PROBES_FROM / "security/escape/probes", root / "program/security/escape/probes")
        key = _shared_memory(undo, f"{secret}-in-shared-memory")
        named = Path(f"/dev/shm/{root.name}")
        undo.callback(named.unlink)
        named.write_text(f"{secret}-in-a-named-segment")
        named.chmod(0o666)
        abstract = root.name
        state = folder / "state"
        files = [folder / "given/service.sock", box / "service.sock", folder / "docker.sock"]
        files += [state / "agent.sock", state / "control.sock"]
        listening = undo.enter_context(listeners(abstract, *map(str, files)))
        victim = _victim(undo, root, secret)
        bait = Bait(
            open=str(folder),
            given=str(folder / "given"),
            box=str(box),
            private=str(private),
            engine=engine,
            victim=victim.pid,
            handle=_handle(folder / "canary"),
            shm_key=key,
            shm_file=str(named),
            abstract=abstract,
            ports=listening.ports,
            limits=_limits(limits, LOOSER.get(driver, 1.0)),
            numbers=_numbers(),
        )
        yield Laid(
            bait=bait,
            root=root,
            limits=limits,
            secret=secret,
            listening=listening,
            victim=victim,
            before=_settings(),
        )


# ---- laid out ----------------------------------------------------------------------------------------------------


def _furnish(folder: Path, secret: str) -> None:
    for part in ("given", "state/keys", "state/tokens"):
        (folder / part).mkdir(parents=True)
    written = {
        "canary": "in-a-file",
        "given/short": "none of it: this is mounted",
        "state/keys/operator.key": "in-a-key",
        "state/tokens/agent": "in-a-token",
    }
    for name, text in written.items():
        (folder / name).write_text((text if " " in text else f"{secret}-{text}") + "\n")
    with closing(sqlite3.connect(folder / "state/pratique.db")) as database, database:
        database.execute("CREATE TABLE events (payload TEXT)")
        database.execute("INSERT INTO events VALUES (?)", (f"{secret}-in-the-audit-log",))
    for parent, folders, files in os.walk(folder):
        for name in files:
            os.chmod(f"{parent}/{name}", 0o666)
        for name in (*folders, "."):
            os.chmod(f"{parent}/{name}", 0o777)
    identity = shutil.which("id")
    assert identity is not None
    shutil.copy(identity, folder / "given/id")
    os.chmod(folder / "given/id", 0o4755)


def _victim(undo: ExitStack, root: Path, secret: str) -> "subprocess.Popen[bytes]":
    """Of the sandboxes' own uid, with secrets in its environment, arguments, folder and descriptors."""
    script = """
        trap 'echo gateway-signalled >&3' USR1
        trap 'echo gateway-signalled-by-descriptor >&3' USR2
        sleep 600 & echo at-work >&3
        while kill -0 $!; do wait; done
    """
    with open(root / "heard", "ab") as heard, open(root / "open/canary") as canary:
        os.fchmod(heard.fileno(), 0o666)
        victim = subprocess.Popen(
            ["/bin/sh", "-c", f"exec 3>>'{root}/heard'; {script}", "victim", f"{secret}-in-an-argument"],
            stdin=canary,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=root / "open",
            env={"PATH": "/usr/bin:/bin", "TOKEN": f"{secret}-in-an-environment"},
            user=UID,
            group=UID,
            extra_groups=(),
            start_new_session=True,
        )

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()

    undo.callback(end)
    until = time.monotonic() + 10
    while "at-work" not in (root / "heard").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    (root / "heard").write_text("")
    return victim


def _shared_memory(undo: ExitStack, text: str) -> int:
    key = secrets.randbits(31) | 1
    segment = _libc.shmget(key, 4096, 0o1666)
    assert segment >= 0
    undo.callback(_libc.shmctl, segment, 0, None)
    _libc.shmat.restype, _libc.shmdt.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    place = _libc.shmat(segment, None, 0)
    ctypes.memmove(place, text.encode(), len(text))
    _libc.shmdt(place)
    return key


def _handle(path: Path) -> str:
    """name_to_handle_at(2), as hexadecimal: the type, then the handle."""
    handle, mount = ctypes.create_string_buffer(8 + 128), ctypes.c_int()
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
    if _libc.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    size, kind = ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0:2]
    return f"{kind:08x}{handle.raw[8 : 8 + size].hex()}"


def _limits(limits: Limits, looser: float) -> dict[str, int]:
    assert limits.cpu_s is not None
    return {
        "memory": limits.memory_bytes,
        "pids": limits.pids,
        "pids_at_most": int(looser * limits.pids),
        "cpu_s": limits.cpu_s,
        "files": limits.files,
        "tmp": limits.tmp_bytes,
        "file_bytes": limits.file_bytes,
    }


_MORE_NUMBERS: Final = {
    "x86_64": {"getpid": 39, "prlimit64": 302, "shmat": 30, "shmctl": 31, "mlockall": 151, "open_tree_attr": 467},
    "aarch64": {"getpid": 172, "prlimit64": 261, "shmat": 196, "shmctl": 195, "mlockall": 230, "open_tree_attr": 467},
}
"""Calls that no rule names."""


def _numbers() -> dict[str, int]:
    table = json.loads(resources.files("sandbox.seccomp").joinpath("syscalls.json").read_text())
    machine = os.uname().machine
    numbers: dict[str, int] = table[machine] | _MORE_NUMBERS[machine]
    return numbers


# ---- looked at afterwards ----------------------------------------------------------------------------------------


def _signed(bait: Bait) -> tuple[str, ...]:
    there = ("canary", "made", "given/note", "given/short", "state/pratique.db", "state/pratique.db-wal")
    return tuple(f"{bait.open}/{name}" for name in there)


def _signatures(path: str) -> list[str]:
    """Lines that are a probe's name."""
    with suppress(FileNotFoundError), open(path, errors="replace") as file:
        from security.escape.probes.table import PROBES

        return [name for line in file if (name := line.rstrip("\n").rpartition("\0")[2]) in PROBES]
    return []


def _odd(path: str) -> str:
    """What a sandbox may not leave in a mount."""
    found = os.lstat(path)
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return "left a device"
    if found.st_mode & 0o6000:
        return f"left mode {found.st_mode & 0o7777:o}"
    if stat.S_ISREG(found.st_mode) and "security.capability" in os.listxattr(path):
        return "left capabilities"
    return ""


def _settings() -> dict[str, object]:
    """Of the host, read only."""
    names = ("kernel/hostname", "kernel/domainname", "kernel/core_pattern", "vm/overcommit_memory")
    settings: dict[str, object] = {name: Path(f"/proc/sys/{name}").read_text() for name in names}
    settings["swap"] = Path("/proc/swaps").read_text()
    settings["links"] = Path("/proc/thread-self/net/dev").read_text().count("\n")
    settings["clock"] = round((time.time() - time.monotonic()) / 5)
    return settings
