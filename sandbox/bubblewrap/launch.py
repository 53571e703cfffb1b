"""Run by root as a process of its own: become nobody, keeping a private view of what nobody could not reach.

bubblewrap started as root would leave the host's uid 0 behind its walls, so it is started as an unprivileged uid; but
that uid cannot pass a home of mode 0700 on the way to an interpreter or a mount. So, while still root, the sources are
bound to a place of ours in a mount namespace that only this process and its children see. Nothing of the host changes,
and all of it is gone when they are.

Where a source belongs to somebody else and is private or to be written to, it is bound with its owner mapped to the
sandbox's uid (mount_setattr(2), "ID-mapped mounts"): what is written there belongs, on disk, to the folder's owner.

Reads `{"uid": n, "groups": [n ...], "binds": [[source, path beneath STAGE, owner to map or null] ...], "argv": [...],
"env": {...}}` from the descriptor that its only argument names.
"""

import ctypes
import json
import os
import signal
import stat
import sys
from typing import Final

STAGE: Final = "/tmp"  # noqa: S108  # a directory that every host has; covered in our namespace only

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_RECURSIVE, AT_FDCWD = 1, 0x1000, 0x8000, -100
MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 4, 0x00100000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> None:
    with open(int(sys.argv[1]), "rb") as plan_file:
        plan = json.load(plan_file)
    _stage(plan["binds"], plan["uid"])
    _become(plan["uid"], plan["groups"])
    os.chdir("/")
    os.execve(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606


def _stage(binds: list[tuple[str, str, list[int] | None]], uid: int) -> None:
    _call("unshare", CLONE_NEWNS)
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    trees = [(_tree(source, owner, uid), target) for source, target, owner in binds]  # before STAGE is covered
    _mount("stage", STAGE, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, data="mode=0755,size=1m")
    for tree, target in trees:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _call("syscall", MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)


def _tree(source: str, owner: list[int] | None, uid: int) -> int:
    """A copy of the mounts beneath a path, attached nowhere yet."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE
    tree = _call("syscall", OPEN_TREE, AT_FDCWD, os.fsencode(source), flags)
    if owner is not None:
        mapping = _mapping(owner, uid)
        attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_IDMAP, 0, 0, mapping)  # set, clear, propagation, user namespace
        size = ctypes.sizeof(attributes)
        _call("syscall", MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, ctypes.byref(attributes), size)
        os.close(mapping)
    return tree


def _mapping(owner: list[int], uid: int) -> int:
    """A user namespace in which the owner's ids, as on disk, stand for the sandbox's. A namespace needs a process."""
    ready, say_ready = os.pipe()
    child = os.fork()
    if child == 0:
        _call("prctl", PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        _call("unshare", CLONE_NEWUSER)
        os.write(say_ready, b"x")
        signal.pause()
    os.close(say_ready)
    try:
        if not os.read(ready, 1):
            raise OSError("no user namespace to map owners with")
        for kind, owner_id in zip(("uid", "gid"), owner, strict=True):
            with open(f"/proc/{child}/{kind}_map", "w") as table:
                table.write(f"{owner_id} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _become(uid: int, groups: list[int]) -> None:
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)  # leaving uid 0 clears every capability
    _call("prctl", PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def _mount(source: str, target: str, *, flags: int, kind: str = "", data: str = "") -> None:
    names = os.fsencode(source), os.fsencode(target), kind.encode() or None
    _call("mount", *names, ctypes.c_ulong(flags), data.encode() or None)


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    answer: int = getattr(_libc, name)(*arguments)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name} {arguments}: {os.strerror(number)}")
    return answer


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"launch: {error}")
