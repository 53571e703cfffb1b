"""What a sandbox sees: bubblewrap's arguments for a spec. Pure but for looking what folders host and image have."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from sandbox.bubblewrap.rootfs import rootfs
from sandbox.mounts import ETC, ETC_NETWORK, SYSTEM, environment
from sandbox.spec import Image, Limits, Spec

SHM_BYTES: Final = 16 << 20

NAMES: Final = ("resolv.conf", "hosts")
"""What an image takes of the host's /etc when it shares its network; the rest of `ETC_NETWORK` is its own."""

GUEST: Final = "/guest"
"""Where a machine that runs in a sandbox finds what its guest is to see."""

_WALLS: Final = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox")

_SHIM: Final = 'umask 022; ulimit -c 0; {limits}exec "$@"'
"""Limits are set from inside, by the shell that every system has: there, and only there, a process limit counts this
sandbox's processes alone."""


def options(spec: Spec, *, sources: Sequence[str], files: Mapping[str, int], image: str = "") -> list[str]:
    """The walls.

    Args:
        sources: where bubblewrap finds each of `spec.mounts`.
        files: paths in the sandbox to descriptors that hold their contents.
        image: where bubblewrap finds the root of `spec.image`, if it has one.

    Raises:
        SandboxError: the image has a link where something is to be mounted.
    """
    options = [*_WALLS]
    if spec.network == "host":
        options.append("--share-net")
    options += _root(spec, image, files)
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
    options += ["--perms", "1777", "--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
    options += _mounts(spec, sources)
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", spec.cwd, "--clearenv"]
    for name, value in environment(spec).items():
        options += ["--setenv", name, value]
    return options


def enclosing(
    spec: Spec,
    machine: Spec,
    devices: Sequence[str],
    *,
    sources: Sequence[str],
    files: Mapping[str, int],
    image: str = "",
) -> list[str]:
    """The walls of a machine, which has the host's programs and, beneath `GUEST`, all that `spec` is to see.

    Args:
        machine: its own spec, without mounts or an image.
        devices: the host's that it has.

    Raises:
        SandboxError: as of `options`.
    """
    seen = [*_root(spec, image, files), "--dir", "/proc", "--dir", "/dev", "--dir", "/tmp", *_mounts(spec, sources)]  # noqa: S108
    options = [*_WALLS, *_root(machine, "", {}), "--proc", "/proc", "--dev", "/dev"]
    options += ["--size", str(machine.limits.tmp_bytes), "--tmpfs", "/tmp", *_beneath(GUEST, seen)]  # noqa: S108
    for device in devices:
        options += ["--dev-bind", device, device]
    return [*options, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--clearenv"]


def command(spec: Spec, *, limit_data: bool) -> list[str]:
    """The program behind its limits; `limit_data`: each process's data too, because nothing else limits memory."""
    return ["/bin/sh", "-c", _SHIM.format(limits=_ulimits(spec.limits, limit_data=limit_data)), "sh", *spec.argv]


def _root(spec: Spec, image: str, files: Mapping[str, int]) -> Iterator[str]:
    yield from _system(spec) if spec.image is None else _of_image(spec, spec.image, image, files)
    for target, descriptor in files.items():
        yield from ("--ro-bind-data", str(descriptor), target)


def _mounts(spec: Spec, sources: Sequence[str]) -> Iterator[str]:
    for mount, source in sorted(zip(spec.mounts, sources, strict=True), key=lambda pair: _depth(pair[0].target)):
        yield from ("--bind" if mount.writable else "--ro-bind", source, mount.target)


def _beneath(folder: str, options: Iterable[str]) -> Iterator[str]:
    """The same options with their targets moved beneath a folder."""
    words = iter(options)
    for option in words:
        yield option
        if option == "--perms":
            yield next(words)
            continue
        if option != "--dir":
            yield next(words)  # a source, a descriptor, what a link says
        yield folder + next(words)


def _system(spec: Spec) -> Iterator[str]:
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for name in (*ETC, *(ETC_NETWORK if spec.network == "host" else ())):
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _of_image(spec: Spec, image: Image, source: str, files: Iterable[str]) -> Iterator[str]:
    named = [f"/etc/{name}" for name in (NAMES if spec.network == "host" else ())]
    yield from rootfs(Path(image.root), source, {*files, *named, *(mount.target for mount in spec.mounts)})
    for path in named:
        yield from ("--ro-bind-try", path, path)


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
