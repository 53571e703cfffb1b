"""What a package brings along runs when a server starts, in its sandbox, and not while an image is built."""

import asyncio
import base64
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest
import support.drivers  # noqa: F401  # says where the tests' engine is
from support.images import BUSYBOX, built, python_base

from sandbox import Mount, Spec
from sandbox.docker import Docker
from sandbox.images import Store, find_image


def wheel(folder: Path, pth: str) -> Path:
    """A package that has nothing but a `.pth` file: each start of its environment's Python runs it."""
    info = "stranger-1.0.dist-info"
    files = {
        "stranger.pth": pth,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(text)},{len(text)}\n" for name, text in files.items())
    path = folder / "stranger-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (*files.items(), (f"{info}/RECORD", f"{record}{info}/RECORD,,\n")):
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.mark.promise("packages-run-nothing-while-built")
def test_a_package_runs_nothing_while_an_image_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    wheel(packages, "import pathlib, sys; pathlib.Path(sys.prefix, 'it-ran').touch()\n").chmod(0o644)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    entry = asyncio.run(built(tmp_path / "state", base=str(python_base()), pypi=("stranger==1.0",)))
    assert entry.pypi == ("stranger==1.0",)
    root = Path(Store(folder=tmp_path / "state" / "images").find(entry.reference).root)
    assert list(root.glob("opt/python/lib/python3*/site-packages/stranger.pth"))
    assert "it-ran" not in os.listdir(root / "opt/python")


@pytest.mark.promise("image-never-root")
@pytest.mark.parametrize("name", ["runc", "gvisor"])
async def test_nothing_of_an_image_runs_as_root(tmp_path: Path, name: Literal["runc", "gvisor"]) -> None:
    """Its shell is a stranger's too: this one would leave the folder's key, and a set-uid program, if it were root."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o777)
    os.chmod(folder, 0o777)
    shell = f'#!/bin/busybox sh\n/bin/busybox touch {folder}/by-$(/bin/busybox id -u)\nexec /bin/busybox sh "$@"\n'
    with tarfile.open(tmp_path / "base.tar", "w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        found = tarfile.TarInfo("bin/sh")
        found.size, found.mode = len(shell), 0o755
        tar.addfile(found, io.BytesIO(shell.encode()))
    entry = await built(tmp_path, base=str(tmp_path / "base.tar"))
    image = find_image(tmp_path, entry.reference)
    driver = await asyncio.to_thread(Docker.find, name)
    mount = Mount(source=str(folder), target=str(folder), writable=True)

    session = await driver.start(Spec(argv=("/bin/busybox", "true"), image=image, mounts=(mount,)))
    assert await session.wait() == 0

    assert os.listdir(folder) == ["by-65534" if os.geteuid() == 0 else f"by-{os.geteuid()}"]
