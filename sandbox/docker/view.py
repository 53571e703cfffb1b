"""What a container sees of the host where it has no image of its own: what bubblewrap's sandboxes see, and no more."""

import io
import os
import tarfile
from collections.abc import Iterator
from typing import Final

from sandbox.docker.user import User
from sandbox.mounts import ETC, ETC_NETWORK, SYSTEM
from sandbox.spec import Mount, Spec

_ENGINES: Final = ("hosts", "resolv.conf")
"""Files of /etc that the engine writes for every container."""


_INIT: Final = "/sbin"
"""Where the engine mounts its init. A link into /usr, as the host's is, would lead beneath what we mount there."""


def system_mounts(spec: Spec) -> Iterator[Mount]:
    """The host's programs and libraries, and the little of /etc that they ask for."""
    for path in SYSTEM:
        if path != _INIT and os.path.isdir(path) and not os.path.islink(path):
            yield Mount(source=path, target=path)
    for name in (*ETC, *(ETC_NETWORK if spec.network == "host" else ())):
        if name not in _ENGINES and os.path.exists(f"/etc/{name}"):
            yield Mount(source=os.path.realpath(f"/etc/{name}"), target=f"/etc/{name}")


def root(user: User) -> bytes:
    """The tar of a root file system with nothing in it but links, names of users, and places to mount at.

    The same on every call, so that it is known by its digest.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in SYSTEM:
            if path == _INIT:
                _add(archive, path, tarfile.DIRTYPE)
                _links(archive, path)
            elif os.path.islink(path):
                _add(archive, path, tarfile.SYMTYPE, link=os.readlink(path))
            elif os.path.isdir(path):
                _add(archive, path, tarfile.DIRTYPE)
        for path in ("/dev", "/etc", "/proc", "/sys"):
            _add(archive, path, tarfile.DIRTYPE)
        _add(archive, "/tmp", tarfile.DIRTYPE, mode=0o1777)  # noqa: S108  # what is mounted there takes its mode
        _add(archive, "/etc/passwd", tarfile.REGTYPE, f"sandbox:x:{user.uid}:{user.gid}:sandbox:/tmp:/bin/sh\n")
        _add(archive, "/etc/hosts", tarfile.REGTYPE, "127.0.0.1 localhost\n::1 localhost\n")
        _add(archive, "/etc/group", tarfile.REGTYPE, f"sandbox:x:{user.gid}:\n")
    return content.getvalue()


def _links(archive: tarfile.TarFile, folder: str) -> None:
    """What a linked folder of the host leads to, link by link."""
    if os.path.islink(folder):
        leads_to = os.path.realpath(folder)
        for name in sorted(os.listdir(leads_to)):
            _add(archive, f"{folder}/{name}", tarfile.SYMTYPE, link=f"{leads_to}/{name}")


def _add(archive: tarfile.TarFile, path: str, kind: bytes, text: str = "", *, link: str = "", mode: int = 0) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.linkname, entry.size = kind, link, len(text)
    entry.mode = mode or (0o644 if kind == tarfile.REGTYPE else 0o755)
    archive.addfile(entry, io.BytesIO(text.encode()))
