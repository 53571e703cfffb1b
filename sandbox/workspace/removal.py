"""Removing a tree that a sandbox has made: of any depth, with any permissions, without following a link."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.workspace.tree import opened

_TRIES: Final = 1_000
"""How often something new may turn up: a server may still be writing there."""


def remove_tree(folder: Path) -> None:
    """Remove `folder` and all in it; nothing happens where it is not there.

    Folders in folders are moved up first, so that no depth of theirs matters, neither to us nor to the kernel.

    Raises:
        OSError: something cannot be removed.
    """
    try:
        with opened(folder) as root:
            for _ in range(_TRIES):
                _flatten(root)
                with suppress(OSError):
                    os.rmdir(folder)
                    return
    except FileNotFoundError:
        return
    os.rmdir(folder)


def _flatten(root: int) -> None:
    """Empty every folder that stands in `root`, its folders moved up beside it."""
    todo = os.listdir(root)
    while todo:
        name = todo.pop()
        if _removed(root, name):
            continue
        descriptor = _forced(root, name)
        try:
            for inner in os.listdir(descriptor):
                if not _removed(descriptor, inner):
                    _forced_away(descriptor, inner)
                    os.rename(inner, beside := secrets.token_hex(16), src_dir_fd=descriptor, dst_dir_fd=root)
                    todo.append(beside)
        finally:
            os.close(descriptor)
        with suppress(OSError):  # not empty any more: met again in the next round
            os.rmdir(name, dir_fd=root)


def _removed(parent: int, name: str) -> bool:
    """Whether it was no folder, and is gone."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    return True


def _forced(parent: int, name: str) -> int:
    """A descriptor of a folder, which may forbid to be entered."""
    _forced_away(parent, name)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _forced_away(parent: int, name: str) -> None:
    """Let a folder be entered, and moved: moving one writes to it."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
