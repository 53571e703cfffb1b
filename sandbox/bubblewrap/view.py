"""What a sandbox sees: bubblewrap's arguments for a spec. Pure but for looking which system folders the host has."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from sandbox.mounts import ENVIRONMENT, ETC, ETC_NETWORK, SYSTEM
from sandbox.spec import Limits, Spec

SHM_BYTES: Final = 16 << 20

_SHIM: Final = 'umask 022; ulimit -c 0; {limits}exec "$@"'
"""Limits are set from inside, by the shell that every system has: there, and only there, a process limit counts this
sandbox's processes alone."""


def options(spec: Spec, *, sources: Sequence[str], files: Mapping[str, int]) -> list[str]:
    """The walls.

    Args:
        sources: where bubblewrap finds each of `spec.mounts`.
        files: paths in the sandbox to descriptors that hold their contents.
    """
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"]
    if spec.network == "host":
        options.append("--share-net")
    options += _system(spec)
    for target, descriptor in files.items():
        options += ["--ro-bind-data", str(descriptor), target]
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
    options += ["--perms", "1777", "--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
    for mount, source in sorted(zip(spec.mounts, sources, strict=True), key=lambda pair: _depth(pair[0].target)):
        options += ["--bind" if mount.writable else "--ro-bind", source, mount.target]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", spec.cwd, "--clearenv"]
    for name, value in {**ENVIRONMENT, **spec.env}.items():
        options += ["--setenv", name, value]
    return options


def command(spec: Spec, *, limit_data: bool) -> list[str]:
    """The program behind its limits; `limit_data`: each process's data too, because nothing else limits memory."""
    return ["/bin/sh", "-c", _SHIM.format(limits=_ulimits(spec.limits, limit_data=limit_data)), "sh", *spec.argv]


def _system(spec: Spec) -> Iterator[str]:
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for name in (*ETC, *(ETC_NETWORK if spec.network == "host" else ())):
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _ulimits(limits: Limits, *, limit_data: bool) -> str:
    """Shell words. dash and busybox call the limit on processes -p, bash -u; -f counts blocks of 512 bytes, -d KiB."""
    words = [
        f"ulimit -p {limits.pids} 2>/dev/null || ulimit -u {limits.pids} || exit 126",
        f"ulimit -n {limits.files} || exit 126",
        f"ulimit -f {limits.file_bytes // 512} || exit 126",
    ]
    if limits.cpu_s is not None:
        words.append(f"ulimit -t {limits.cpu_s} || exit 126")
    if limit_data:
        words.append(f"ulimit -d {limits.memory_bytes // 1024} || exit 126")
    return "".join(f"{word}; " for word in words)


def _depth(target: str) -> int:
    return len(PurePosixPath(target).parts)
