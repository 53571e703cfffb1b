"""Every sandbox driver of this machine. None is skipped: one that cannot be found fails, and says what mends it."""

import os
from pathlib import Path
from typing import Final

import pytest

from sandbox.driver import Driver
from sandbox.drivers import FINDERS

DRIVERS: Final = ("bubblewrap", "runc", "gvisor", "vm")

_CACHE: Final = Path(__file__).parents[2] / ".cache"
os.environ.setdefault("DOCKER_HOST", f"unix://{_CACHE / 'docker' / 'docker.sock'}")
os.environ.setdefault("PRATIQUE_VM_KERNEL", str(_CACHE / "vm"))


def find(name: str) -> Driver:
    """Raises SandboxError, with its mend: `setup.sh` installs the parts, `with_engine.sh` starts the engine."""
    return FINDERS[name]()


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    """A conftest that imports this has its tests run once with each driver."""
    return find(request.param)
