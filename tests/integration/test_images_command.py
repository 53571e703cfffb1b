"""`pratique image`, as it is typed."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from gateway.cli.app import run


def test_the_command_line_builds_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/sh")
    state = ["--state", str(tmp_path)]

    assert run(["image", "build", "tiny", "--base", str(base), *state]) == 0
    line = capsys.readouterr().out.strip()
    assert run(["image", "list", "--json", *state]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert line == f'image = "{entry["reference"]}"'
    assert run(["image", "list", *state]) == 0
    assert line in capsys.readouterr().out
    assert run(["image", "remove", "tiny", *state]) == 0
    assert run(["image", "remove", "tiny", *state]) == 1
    assert "there is no image tiny" in capsys.readouterr().err
