"""What every sandbox has of the host, what it may be given, and the little environment it starts with."""

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from sandbox.errors import SandboxError
from sandbox.spec import Mount, Spec

SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Programs and libraries: the same on every machine of a distribution, and readable by everyone."""

ETC: Final = (
    "ld.so.cache",
    "localtime",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "pki/tls/certs",
)
ETC_NETWORK: Final = ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols")

ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
}

IMAGE_PATH: Final = f"/opt/npm/node_modules/.bin:/opt/python/bin:{ENVIRONMENT['PATH']}"
"""Where a program of an image is looked up: what was installed into it first (`images/install.py`)."""


def environment(spec: Spec) -> Mapping[str, str]:
    """All that a program starts with."""
    return {**ENVIRONMENT, **({"PATH": IMAGE_PATH} if spec.image else {}), **spec.env}


def checked(mounts: Sequence[Mount]) -> None:
    """Refuse mounts that would undo the sandbox.

    Raises:
        SandboxError: a mount is missing, misplaced, or can be swapped by whoever writes to another.
    """
    for mount in mounts:
        target = PurePosixPath(mount.target)
        if not target.is_absolute() or ".." in target.parts or not os.path.isabs(mount.source):
            raise SandboxError("mount", f"{mount.source} -> {mount.target} is not absolute", "Write the whole path.")
        if len(target.parts) == 1 or target.parts[1] in {"proc", "dev", "sys"}:
            raise SandboxError("mount", f"{mount.target} belongs to the sandbox", "Mount it elsewhere.")
        if not os.path.exists(mount.source):
            raise SandboxError("mount", f"{mount.source} does not exist", "Create it, or leave the mount out.")
    for outer in (mount for mount in mounts if mount.writable):
        for inner in mounts:
            if PurePosixPath(outer.source) in PurePosixPath(inner.source).parents:
                raise SandboxError(
                    "mount",
                    f"{inner.source} lies in {outer.source}, which the sandbox writes to: it could put a link there",
                    "Mount only the outer one, or move the inner one out.",
                )
            place = PurePosixPath(inner.target)
            if PurePosixPath(outer.target) in place.parents and not _is_place(outer, place):
                raise SandboxError(
                    "mount",
                    f"{inner.target} is not in {outer.source}, which the sandbox writes to: it would be made there",
                    "Make it there first, or mount it elsewhere.",
                )


def _is_place(outer: Mount, place: PurePosixPath) -> bool:
    """Whether something can be mounted at this place of a writable mount: it is there, and no link is on the way."""
    at = outer.source
    for part in place.relative_to(outer.target).parts:
        at = os.path.join(at, part)
        if os.path.islink(at) or not os.path.exists(at):
            return False
    return True
