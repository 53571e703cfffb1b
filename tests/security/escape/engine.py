"""A second container engine, in the island: what its containers share of "the host's" network is the island's."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.docker.reaper import ask

RUNSC = Path(__file__).parents[3] / ".cache/bin/runsc"
START_S = 60.0


@contextmanager
def engine() -> Iterator[str]:
    """To be started in the island. The path of its socket."""
    home = Path(tempfile.mkdtemp(prefix="pratique-engine-", dir="/tmp"))
    home.chmod(0o755)  # that the socket is there is for everyone to see
    socket = str(home / "docker.sock")
    settings = {
        "hosts": [f"unix://{socket}"],
        "data-root": str(home / "data"),
        "exec-root": str(home / "run"),
        "pidfile": str(home / "pid"),
        "bridge": "none",
        "iptables": False,
        "ip-forward": False,
        "live-restore": False,
        "runtimes": {
            "runsc": {"path": str(RUNSC), "runtimeArgs": ["--platform=systrap", "--network=none", "--oci-seccomp"]}
        },
    }
    (home / "daemon.json").write_text(json.dumps(settings))
    with open(home / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "dockerd", "--config-file", str(home / "daemon.json")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _until_it_answers(daemon, socket, home / "log")
        yield socket
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        for mount in _mounts_beneath(home):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(home)


def _until_it_answers(daemon: "subprocess.Popen[bytes]", socket: str, log: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and daemon.poll() is None:
        with suppress(OSError, ValueError):
            if ask(socket, "GET", "/info")[0] == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"no engine: {log.read_text(errors='replace')[-1000:]}")


def _mounts_beneath(home: Path) -> list[str]:
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in reversed(places) if place.startswith(f"{home}/")]
