"""What a root loses and gains before it is an image: nothing that varies or says who built it, every mount point.

So the same content gives the same digest, and no driver has to write into an image to mount something in it.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from sandbox.images.archive import inside

VARYING: Final = (
    "dev/*",
    "etc/apt",
    "etc/machine-id",
    "proc/*",
    "root/.cache",
    "root/.npm",
    "run/*",
    "sys/*",
    "tmp/*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/log/*",
    "var/tmp/*",
)
"""Caches, logs, identities, and how the builder's machine fetches."""

READING: Final = ("usr/share/info", "usr/share/locale", "usr/share/man", "usr/share/lintian", "usr/share/doc/*/*.gz")
"""What people read; licences stay."""

FOLDERS: Final = ("dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var/tmp")
USERS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
"""Made where they are missing."""
FILES: Final = {
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": "",
    "etc/hostname": "",
}
"""Of whatever machine the root comes from; drivers put their own over them."""

PYTHON: Final = "usr/bin/python3"
"""Where the egress forwarder looks for one (`egress/forwarder.py`)."""
OTHER_PYTHON: Final = "usr/local/bin/python3"
"""Where images of Python have it."""


def tidy(root: Path) -> None:
    """Take away what varies, and make what is missing.

    Raises:
        SandboxError: a folder that every root has is a link, or a file.
    """
    for pattern in VARYING:
        _remove(root, pattern)
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".pyc"):  # checked by their source's time, which is lost here; `bytecode.py` makes better
                os.unlink(os.path.join(folder, name))
    for folder in FOLDERS:
        inside(root, folder, make=True)
    for name, content in (FILES | USERS).items():
        path = root / name
        if path.is_symlink() or not path.is_file() or name in FILES:
            path.unlink(missing_ok=True)
            path.write_text(content)
    if (root / OTHER_PYTHON).exists() and not os.path.lexists(root / PYTHON):
        (inside(root, "usr/bin", make=True) / "python3").symlink_to(f"/{OTHER_PYTHON}")


def tidy_debian(root: Path) -> None:
    """What nobody ran the packages' own scripts for."""
    for pattern in READING:
        _remove(root, pattern)
    bundle = inside(root, "etc/ssl/certs", make=True) / "ca-certificates.crt"
    if not bundle.exists():
        certificates = sorted(inside(root, "usr/share/ca-certificates").rglob("*.crt"))
        bundle.write_text("".join(path.read_text().strip() + "\n" for path in certificates if not path.is_symlink()))


def _remove(root: Path, pattern: str) -> None:
    for path in list(_matches(root, PurePosixPath(pattern))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _matches(root: Path, pattern: PurePosixPath) -> Iterator[Path]:
    """Paths of the root, none of which is reached by a link."""
    for path in root.glob(str(pattern)):
        if not any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(root) and parent != root):
            yield path
