"""What is measured, as processes: a bare SDK proxy with no policy, and the gateway with everything on."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parent
ECHO = [sys.executable, str(HERE / "echo.py")]
PROGRAM = (sys.executable, "-P", "-m", "gateway")
CALLERS = 32
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One running proxy."""

    name: str
    port: int
    pid: int
    token: str = ""
    prefix: str = ""
    """What a tool's public name begins with."""
    state: Path = Path()
    """The gateway's."""

    def cpu_s(self) -> float:
        """Processor seconds of the proxy's own process so far; the echo server's are its own."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def proxy(port: int) -> Iterator[Target]:
    """The bare SDK proxy."""
    with _process([sys.executable, str(HERE / "sdk_proxy.py"), str(port), *ECHO]) as process:
        _until_open(port)
        yield Target(name="SDK proxy", port=port, pid=process.pid)


@contextmanager
def gateway(
    port: int, settings: str = "", *, name: str = "Pratique", program: Sequence[str] = PROGRAM
) -> Iterator[Target]:
    """The gateway: token, schema, labels, Rego, sandbox, durable audit; with more `settings`, run as this `program`."""
    with tempfile.TemporaryDirectory() as folder:
        state, config = Path(folder, "state"), Path(folder, "pratique.toml")
        command = json.dumps([sys.executable, "-c", (HERE / "echo.py").read_text()])  # no file: no mount, so sealed
        config.write_text(
            f'[gateway]\nlisten = "127.0.0.1:{port}"\n[server.bench]\ncommand = {command}\n'
            f'pack = "{HERE / "bench.toml"}"\n{settings}'
        )
        with _process([*program, "serve", "--config", str(config), "--state", str(state)]) as process:
            _until_ready(port)
            to = json.dumps([f"d{place}" for place in range(CALLERS)])
            allow = ["--allow", f"bench.write(to in {to})", "--allow", "bench.look"]
            grant = [*PROGRAM, "grant", "--task", "bench", *allow, "--state", str(state), "--json"]
            granted = json.loads(subprocess.run(grant, check=True, capture_output=True).stdout)
            yield Target(name=name, port=port, pid=process.pid, token=granted["token"], prefix="bench__", state=state)


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def _until_ready(port: int) -> None:
    for _ in range(300):
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the gateway did not become ready")


def _until_open(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the proxy did not open its port")
