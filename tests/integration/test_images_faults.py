"""What can go wrong while an image is built: the step is named, and nothing is left."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.images import BUSYBOX, add, built, python_base, tiny_base

from sandbox import SandboxError
from sandbox.images.debian import RUNTIME, bootstrap

ROOT = Path(__file__).parents[2]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base.tar")


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ({"npm": ("left-pad@1.3.0",)}, "npm.*not found"),
        ({"pypi": ("click==8.3.0",)}, "pip.*not found"),
    ],
)
async def test_a_base_without_installers_says_so_and_leaves_nothing(
    tmp_path: Path, base: Path, recipe: dict[str, Sequence[str]], why: str
) -> None:
    with pytest.raises(SandboxError, match=why):
        await built(tmp_path, base=str(base), **recipe)

    assert os.listdir(tmp_path / "images") == ["lock"]


async def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"pip: .*click==0\.0\.777"):
        await built(tmp_path, base=str(python_base()), pypi=("click==0.0.777",))

    assert os.listdir(tmp_path / "images") == ["lock"]


async def test_a_root_without_a_shell_is_no_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        add(tar, "etc/os-release", content=b"ID=empty\n")

    with pytest.raises(SandboxError, match="/bin/sh"):
        await built(tmp_path, base=str(tmp_path / "empty.tar"))

    assert os.listdir(tmp_path / "images") == ["lock"]


async def test_a_base_that_would_lead_out_of_the_image_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "hostile.tar", "w") as tar:
        add(tar, "etc", link=str(outside))

    with pytest.raises(SandboxError, match="/etc is expected to be a folder"):
        await built(tmp_path, base=str(tmp_path / "hostile.tar"))

    assert os.listdir(outside) == []


@pytest.mark.parametrize("filled", ["image.tar", "base"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, filled: str) -> None:
    """On a file system of its own, too small: in a mount namespace, so that the machine sees nothing of it."""
    with tarfile.open(tmp_path / "base.tar", "w") as tar:
        tar.add(BUSYBOX, "bin/sh")
        add(tar, "usr/big", content=os.urandom(2 << 20))
    size = {"image.tar": 3 * (2 << 20), "base": 1 << 20}[filled]
    program = (
        "import asyncio, os; from pathlib import Path; from sandbox import SandboxError\n"
        "from sandbox.images import Recipe, Store, build\n"
        f"store, recipe = Store(folder=Path('{tmp_path}/disk')), Recipe(name='big', base='{tmp_path}/base.tar')\n"
        "try: asyncio.run(build(store, recipe, print))\n"
        "except SandboxError as error: print(error, os.listdir(store.folder))\n"
    )
    mounted = f'mount -t tmpfs -o size={size} none {tmp_path}/disk && exec {sys.executable} -c "$0"'
    (tmp_path / "disk").mkdir()

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    *steps, said = done.stdout.splitlines()
    assert (steps[-1] == "writing the archive") == (filled == "image.tar")
    assert "No space left on device. Make room there" in said
    assert said.endswith("['lock']")


async def test_a_machine_without_mmdebstrap_is_told_what_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SandboxError, match=r"apt install mmdebstrap.*--base FILE\.tar"):
        await bootstrap(tmp_path / "base.tar", RUNTIME, lambda said: None)


async def test_a_package_that_debian_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"mmdebstrap: .*no-such-package"):
        await bootstrap(tmp_path / "base.tar", ("no-such-package",), lambda said: None)
