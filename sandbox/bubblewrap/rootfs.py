"""An image as a sandbox's root: bubblewrap's arguments for it. Reads its folders, and follows none of its links.

The root is a tmpfs that holds the image's top-level entries, read-only. A folder that lacks a mount point further down
is opened instead: made anew, its entries bound one by one, so that the point can be made beside them. bubblewrap makes
mount points as a user of the host, and an image's link may name any path: a point must not lie behind one.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from sandbox.errors import SandboxError

OWN: Final = frozenset({"/proc", "/dev", "/tmp", "/sys"})  # noqa: S108
"""Made by the driver, whatever the image has there."""


def rootfs(root: Path, source: str, points: Collection[str]) -> Iterator[str]:
    """The arguments.

    Args:
        root: where the image can be looked at now.
        source: where bubblewrap finds it.
        points: paths in the sandbox that will be mounted on.

    Raises:
        SandboxError: a mount point lies behind a link, or beneath a file.
    """
    yield from _folder(root, source, PurePosixPath("/"), {PurePosixPath(point) for point in points})


def _folder(root: Path, source: str, folder: PurePosixPath, points: Collection[PurePosixPath]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(_of(root, folder)), key=lambda entry: entry.name)
    except OSError as missing:
        raise SandboxError("image", str(missing), "Build it again: `pratique image build`.") from missing
    for entry in entries:
        path = folder / entry.name
        beneath = [point for point in points if path in point.parents]
        if path in points or str(path) in OWN:
            continue  # covered
        if beneath and (entry.is_symlink() or not entry.is_dir()):
            what = f"{beneath[0]} lies behind {path}, which is no folder of the image"
            raise SandboxError("mount", what, "Mount it at the real path, or elsewhere.")
        if entry.is_symlink():
            yield from ("--symlink", os.readlink(entry.path), str(path))
        elif all(_is_there(root, point) for point in beneath):
            yield from ("--ro-bind", source + str(path), str(path))
        else:
            yield from ("--perms", "0755", "--dir", str(path))
            yield from _folder(root, source, path, beneath)


def _is_there(root: Path, point: PurePosixPath) -> bool:
    """Whether it can be mounted on as it is: not reached by a link, nor one itself."""
    on_the_way = [_of(root, folder) for folder in (point, *point.parents)]
    return on_the_way[0].exists() and not any(place.is_symlink() for place in on_the_way[:-1])


def _of(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")
