"""Images for tests: one with real servers in it, a minute the first time and kept in `.cache/images`, and tiny ones."""

import asyncio
import fcntl
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from sandbox import images
from sandbox.images import Entry, Recipe, Store, build
from sandbox.images.debian import RUNTIME, bootstrap
from sandbox.spec import Image

T = TypeVar("T")

BUSYBOX: Final = Path(shutil.which("busybox") or "/bin/busybox")

STATE: Final = Path(__file__).parents[2] / ".cache"
"""As if it were a gateway's: its images are in `images/`."""

RECIPE: Final = Recipe(
    name="servers",
    npm=("@modelcontextprotocol/server-everything@2026.8.31", "@modelcontextprotocol/server-filesystem@2026.8.31"),
    pypi=("mcp-server-git==2026.10.19",),
    debian=("git",),
)
"""In it: `mcp-server-everything`, `mcp-server-filesystem FOLDER`, `mcp-server-git`, and `node`, `python3`, `git`."""

_SOURCES = sorted(Path(images.__file__).parent.glob("*.py"))
_BUILDER: Final = hashlib.sha256(repr(asdict(RECIPE)).encode() + b"".join(map(Path.read_bytes, _SOURCES))).hexdigest()
"""The builder as it was imported, and what it is to build."""


def built_image() -> Image:
    """The image; built if there is none of this recipe by this builder. May be called from anywhere, also in a loop."""
    store = Store(folder=STATE / "images")
    store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "images.lock").open("w") as lock:  # held: one of the tests' processes builds, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = STATE / "images" / "stamp"
        if not stamp.is_file() or stamp.read_text().split()[0] != _BUILDER:
            if store.entries():
                store.remove(RECIPE.name)  # an earlier builder's
            entry = _done(build(store, RECIPE, lambda said: None))
            stamp.write_text(f"{_BUILDER} {entry.reference}")
    return store.find(stamp.read_text().split()[1])


def python_base() -> Path:
    """A tar of a Debian with Python and pip, made once."""
    path = STATE / "images-python.tar"
    if not path.exists():
        new = path.with_suffix(".new")
        packages = (*(name for name in RUNTIME if name != "nodejs"), "python3-pip")
        _done(bootstrap(new, packages, lambda said: None))
        new.with_suffix(".apt").unlink()
        new.replace(path)
    return path


def tiny_base(path: Path) -> Path:
    """A tar of the smallest root that has a shell, made on somebody's machine: with traces of it."""
    with tarfile.open(path, "w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in ("sh", "cat", "ls", "id", "touch"):
            add(tar, f"bin/{applet}", link="busybox")
        for trace in ("etc/machine-id", "var/log/dpkg.log", "var/cache/x", "etc/hostname", "usr/lib/x.pyc"):
            add(tar, trace, content=os.urandom(8))
    return path


def add(tar: tarfile.TarFile, name: str, *, link: str = "", content: bytes = b"") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    tar.addfile(info, io.BytesIO(content))


async def built(state: Path, *, base: str, npm: Sequence[str] = (), pypi: Sequence[str] = ()) -> Entry:
    """An image called tiny in a state."""
    recipe = Recipe(name="tiny", base=base, npm=tuple(npm), pypi=tuple(pypi))
    return await build(Store(folder=state / "images"), recipe, lambda said: None)


def _done(work: Coroutine[Any, Any, T]) -> T:
    """Done in a loop of its own, whoever asks."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
