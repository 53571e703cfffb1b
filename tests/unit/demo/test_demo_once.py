"""The demo as a newcomer runs it: a gateway, four sandboxed servers, both columns, and every claim checked."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.play import lacking
from sandbox.driver import Capabilities


@pytest.mark.promise("demo-day")
def test_the_day_goes_as_it_must_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "demo", "--once", "--port", "0"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "refused: no_capability" in ended.stdout
    assert "EUR 640.00 went to the attacker" in ended.stdout
    assert "nothing went to the attacker" in ended.stdout
    assert "everything that must have happened did" in ended.stdout
    assert max(len(line) for line in ended.stdout.splitlines()) <= 80
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_walls_is_told_what_mends_it() -> None:
    found = Capabilities(verified=frozenset({"filesystem"}), why_not={"network": "no user namespaces; run X"})

    assert lacking(found) == ["network: no user namespaces; run X"]
    assert lacking(Capabilities(verified=frozenset({"network"}))) == []
