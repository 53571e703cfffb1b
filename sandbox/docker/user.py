"""Who a container's program is on the host, and whether that one can use what it was given.

The engine binds folders as root, whatever lies above them; what they hold is still read and written as this user.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sandbox.errors import SandboxError
from sandbox.spec import Mount

NOBODY: Final = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    uid: int
    gid: int


def user_for(mounts: Sequence[Mount]) -> User:
    """This process's user; of a gateway that is root, the one user besides root whose folders it writes to, or nobody.

    Raises:
        SandboxError: a mount is of no use to that user.
    """
    user = User(uid=os.geteuid(), gid=os.getegid())
    if user.uid == 0:
        owners = {os.stat(mount.source).st_uid for mount in mounts if mount.writable}
        uid = owners.pop() if len(owners) == 1 and 0 not in owners else NOBODY
        user = User(uid=uid, gid=uid)
    for mount in mounts:
        _check(mount, user)
    return user


def _check(mount: Mount, user: User) -> None:
    found = os.stat(mount.source)
    need = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    if not _may(found, user, need):
        raise SandboxError(
            "mount",
            f"{mount.source} is private to user {found.st_uid}, and the container's program runs as {user.uid}",
            "Let others read it (chmod -R o+rX), give it to that user (chown -R), or use the driver bubblewrap.",
        )
    if mount.writable and not _may(found, user, need | 0o2):
        raise SandboxError(
            "mount",
            f"{mount.source} belongs to user {found.st_uid}, and user {user.uid}, as whom the container's program "
            "runs, may not write to it",
            f"Give it to that user (chown -R {user.uid}:{user.gid}), or use the driver bubblewrap.",
        )


def _may(found: os.stat_result, user: User, need: int) -> bool:
    shift = 6 if found.st_uid == user.uid else 3 if found.st_gid == user.gid else 0
    return (found.st_mode >> shift) & need == need
