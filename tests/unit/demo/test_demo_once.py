"""The demo as a newcomer runs it: a gateway, four sandboxed servers, both columns, and every claim checked."""

import signal
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


@pytest.mark.promise("demo-cleans-up")
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path, told: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-P", "-m", "gateway", "demo", "--port", "0"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    with demo:
        seen = demo.stdout.readline()
        assert seen.startswith("left: "), seen + demo.stdout.read()
        assert len(list(tmp_path.glob("pratique-demo-*"))) == 1
        demo.send_signal(told)
        rest = demo.stdout.read()

    assert (demo.returncode, rest.splitlines()[-1]) == (0, "stopped")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_walls_is_told_what_mends_it() -> None:
    found = Capabilities(verified=frozenset({"filesystem"}), why_not={"network": "no user namespaces; run X"})

    assert lacking(found) == ["network: no user namespaces; run X"]
    assert lacking(Capabilities(verified=frozenset({"network"}))) == []
