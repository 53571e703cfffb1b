"""Every test here runs on every driver."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.drivers import driver

from sandbox import hand_over

__all__ = ["driver"]

CACHE = Path(__file__).parents[2] / ".cache" / "conformance"


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[None]:
    """What drivers keep between runs is in a place of these tests' own, so that nobody else's is taken for remains."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(CACHE))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that sandboxes may write to (`shared`)."""
    made = tmp_path / "work"
    made.mkdir()
    hand_over(made)
    return made
