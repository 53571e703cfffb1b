"""Start-up: five packages of common names, all of them ours or none."""

import subprocess
import sys
from pathlib import Path


def test_a_stranger_of_the_same_name_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/__init__.py").write_text("raise SystemExit('the stranger was run')\n")

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "audit would be imported from elsewhere" in ended.stderr
    assert "environment of its own" in ended.stderr


def test_beside_each_other_they_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "grant" in ended.stdout
