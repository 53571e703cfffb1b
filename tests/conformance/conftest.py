"""Every test here runs on every driver."""

from pathlib import Path

import pytest
from support.drivers import driver

from sandbox import hand_over

__all__ = ["driver"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that sandboxes may write to (`shared`)."""
    made = tmp_path / "work"
    made.mkdir()
    hand_over(made)
    return made
