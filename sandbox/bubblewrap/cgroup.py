"""Memory held by the kernel's control groups (versions 1 and 2), where this process may make one.

Everything the sandbox uses is counted, its /tmp, shared memory and page tables included. Where no group can be made
(no delegation by systemd, a read-only /sys in a container), there is none: whoever asks must do with less, and say so.
"""

import os
import secrets
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")

DELEGATE: Final = (
    "Start the gateway where it may make control groups: as root, or by systemd-run --user --scope -p Delegate=yes."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One sandbox's group."""

    path: Path

    def add(self, pid: int) -> None:
        """Raises OSError if the process may not be moved here."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Once it is empty; one that is not is swept away by a later start."""
        with suppress(OSError):
            self.path.rmdir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """A place where groups with a memory limit can be made."""

    parent: Path
    version: int

    def make(self, memory_bytes: int) -> Group:
        """Raises OSError if it cannot be made."""
        group = Group(path=self.parent / f"pratique-{os.getpid()}-{secrets.token_hex(4)}")
        group.path.mkdir()
        try:
            if self.version == 1:
                (group.path / "memory.limit_in_bytes").write_text(str(memory_bytes))
                _if_there(group.path / "memory.memsw.limit_in_bytes", str(memory_bytes))
            else:
                (group.path / "memory.max").write_text(str(memory_bytes))
                _if_there(group.path / "memory.swap.max", "0")
                _if_there(group.path / "memory.oom.group", "1")
        except OSError:
            group.remove()
            raise
        return group


def find_groups(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> Groups | None:
    """The nearest place where a group with a memory limit can be made, found by making one."""
    for parent, version in _candidates(root, membership):
        groups = Groups(parent=parent, version=version)
        if not _works(groups):
            continue
        _sweep(parent)
        return groups
    return None


def _works(groups: Groups) -> bool:
    """Whether a process of ours can move itself into a group made here."""
    try:
        group = groups.make(64 << 20)
    except OSError:
        return False
    try:
        moves = ["/bin/sh", "-c", 'echo $$ >"$0"/cgroup.procs', str(group.path)]
        return subprocess.run(moves, check=False, capture_output=True, timeout=5).returncode == 0  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
    finally:
        group.remove()


def _candidates(root: Path, membership: Path) -> list[tuple[Path, int]]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[Path, int]] = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers == "memory":
            found += [(root / "memory" / own.lstrip("/"), 1), (root / "memory", 1)]
        elif not controllers:
            place = root / own.lstrip("/")
            found += [(folder, 2) for folder in (place, *place.parents) if folder.is_relative_to(root)]
    for folder, version in found:
        if version == 2:  # a group that holds processes may not hand its controllers down; one that does not, may
            with suppress(OSError):
                (folder / "cgroup.subtree_control").write_text("+memory")
    return found


def _sweep(parent: Path) -> None:
    """Remove empty groups whose gateway was killed before it could."""
    for left in parent.glob("pratique-*-*"):
        owner = left.name.split("-")[1]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            Group(path=left).remove()


def _if_there(path: Path, value: str) -> None:
    if path.exists():
        path.write_text(value)
