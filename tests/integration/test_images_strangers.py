"""What a package brings along runs when a server starts, in its sandbox, and not while an image is built."""

import asyncio
import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from support.images import built, python_base

from sandbox.images import Store


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
