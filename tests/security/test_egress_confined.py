"""Ordinary clients in a sandbox whose only way out is the proxy: what is allowed works, nothing else does."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uvloop
from support.egress import API, EVIL, PUBLIC, Log, Town, proxy_of, town

from sandbox.bubblewrap import Bubblewrap
from sandbox.egress.bundle import ENVIRONMENT, bundled
from sandbox.egress.events import Closed, Connected, Refused
from sandbox.egress.proxy import Header
from sandbox.egress.rules import Rule
from sandbox.egress.tls import Authority
from sandbox.runtime import runtime_mounts
from sandbox.spec import Limits, Mount, Spec

RULES = (Rule(API, 80), Rule(API, 443))


@pytest.fixture(scope="module")
def driver() -> Bubblewrap:
    return Bubblewrap.find()


@dataclass(kw_only=True)
class Confined:
    """Runs programs, each in a sandbox of its own with a way out to the town."""

    driver: Bubblewrap
    town: Town
    certificates: Mount
    log: Log = field(default_factory=Log)

    headers: dict[Rule, Header] = field(default_factory=dict)
    authority: Authority | None = None

    async def run(self, *argv: str, limits: Limits | None = None) -> tuple[int, str, str]:
        spec = Spec(
            argv=argv,
            env=ENVIRONMENT,
            mounts=(*runtime_mounts(argv), self.certificates),
            limits=limits or Limits(),
        )
        proxy = proxy_of(self.town, self.log, *RULES, headers=self.headers, authority=self.authority)
        session = await self.driver.start(spec, proxy)
        session.stdin.close()
        out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
        status = await session.wait()
        assert session.attending is not None
        await session.attending
        return status, out.decode(), err.decode()

    async def python(self, source: str, limits: Limits | None = None) -> str:
        status, out, err = await self.run(sys.executable, "-c", source, limits=limits)
        assert (status, err) == (0, "")
        return out.strip()


@pytest.fixture
async def confined(driver: Bubblewrap, tmp_path: Path) -> AsyncIterator[Confined]:
    async with town() as place:
        yield Confined(driver=driver, town=place, certificates=bundled(place.authority.certificate, tmp_path))


URLLIB = """
import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=10).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
    except OSError as error:
        print(error.reason if hasattr(error, "reason") else error)
"""


@pytest.mark.promise("egress-confined")
async def test_pythons_own_client_reaches_what_is_allowed_and_nothing_else(confined: Confined) -> None:
    urls = (f"http://{API}/", f"https://{API}/", f"http://{EVIL}/", f"https://{EVIL}/", "http://169.254.169.254/")
    status, out, err = await confined.run(sys.executable, "-c", URLLIB, *urls)
    assert (status, err) == (0, "")
    assert out.split("\n")[:5] == ["ok", "ok", "403", "Tunnel connection failed: 403 Forbidden", "403"]
    assert {event.address for event in confined.log.events if isinstance(event, Connected)} == {PUBLIC}
    assert [event.target for event in confined.log.events if isinstance(event, Refused)] == [
        f"{EVIL}:80",
        f"{EVIL}:443",
        "169.254.169.254:80",
    ]


async def test_httpx_reaches_what_is_allowed(confined: Confined) -> None:
    source = f"""
import httpx
with httpx.Client() as client:
    print(client.get("http://{API}/").text, client.get("https://{API}/").text, client.get("https://{API}/").text)
try:
    httpx.get("https://{EVIL}/")
except httpx.ProxyError as error:
    print(error)
"""
    assert await confined.python(source) == "ok ok ok\n403 Forbidden"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_curl_reaches_what_is_allowed(confined: Confined) -> None:
    status, out, _ = await confined.run("curl", "-sS", f"http://{API}/", f"https://{API}/")
    assert (status, out) == (0, "okok")
    status, _, err = await confined.run("curl", "-sS", f"https://{EVIL}/")
    assert status == 56
    assert "403" in err


NODE = """
const http = require("http"), tls = require("tls");
const [host, port] = process.argv[1].split(":");
const asked = http.request({ host: "127.0.0.1", port: 3128, method: "CONNECT", path: `${host}:${port}` });
asked.on("connect", (answer, socket) => {
  if (answer.statusCode !== 200) { console.log(answer.statusCode); socket.destroy(); return; }
  const request = `GET / HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n`;
  const inner = tls.connect({ socket, servername: host }, () => inner.write(request));
  inner.on("data", (data) => { console.log(data.toString().split("\\r\\n\\r\\n")[1]); inner.destroy(); });
});
asked.end();
"""


async def test_node_reaches_what_is_allowed(confined: Confined) -> None:
    status, out, err = await confined.run("node", "-e", NODE, f"{API}:443")
    assert (status, out, err) == (0, "ok\n", "")
    status, out, err = await confined.run("node", "-e", NODE, f"{EVIL}:443")
    assert (status, out, err) == (0, "403\n", "")


@pytest.mark.promise("egress-secrets")
async def test_ordinary_clients_use_a_secret_that_they_never_hold(confined: Confined, tmp_path: Path) -> None:
    confined.headers = {Rule(API, 443): Header(name="X-Key", value="s3cret")}
    confined.authority = Authority.for_hosts([API])
    confined.certificates = bundled(confined.authority.certificate, tmp_path)
    status, out, err = await confined.run(sys.executable, "-c", URLLIB, f"https://{API}/", f"https://{API}/")
    assert (status, out, err) == (0, "ok\nok\n", "")
    status, out, err = await confined.run("curl", "-sS", f"https://{API}/a", f"https://{API}/b")
    assert (status, out, err) == (0, "okok", "")
    status, out, err = await confined.run("node", "-e", NODE, f"{API}:443")
    assert (status, out, err) == (0, "ok\n", "")
    assert confined.town.all_heard.count(b"X-Key: s3cret\r\n") == 5


async def test_it_is_the_same_on_the_gateways_own_event_loop(driver: Bubblewrap, tmp_path: Path) -> None:
    def on_uvloop() -> tuple[int, str, str]:
        async def ask() -> tuple[int, str, str]:
            async with town() as place:
                certificates = bundled(place.authority.certificate, tmp_path)
                confined = Confined(driver=driver, town=place, certificates=certificates)
                urls = (f"http://{API}/", f"https://{API}/", f"http://{EVIL}/")
                return await confined.run(sys.executable, "-c", URLLIB, *urls)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(ask())

    assert await asyncio.to_thread(on_uvloop) == (0, "ok\nok\n403\n", "")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder over plain HTTP."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, server.server_port
        server.shutdown()
        thread.join()


async def test_git_clones_from_what_is_allowed(confined: Confined, served: tuple[Path, int], tmp_path: Path) -> None:
    folder, confined.town.ports[PUBLIC, 80] = served
    work = tmp_path / "work"
    identity = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    for command in (
        ["git", "init", "-q", "-b", "main", str(work)],
        [
            "git",
            "-C",
            str(work),
            *("-c", "user.name=a", "-c", "user.email=a@b"),
            *("commit", "-q", "--allow-empty", "-m", "one"),
        ],
        ["git", "clone", "-q", "--bare", str(work), str(folder / "it.git")],
        ["git", "-C", str(folder / "it.git"), "update-server-info"],
    ):
        await asyncio.to_thread(subprocess.run, command, check=True, env=identity)
    script = f"git clone -q http://{API}/it.git /tmp/it && git -C /tmp/it log --format=%s"
    status, out, err = await confined.run("sh", "-c", script)
    assert (status, out, err) == (0, "one\n", "")


@pytest.mark.promise("egress-confined")
async def test_there_is_no_other_way_out_no_resolver_no_route_no_descriptor(confined: Confined) -> None:
    port = confined.town.ports[PUBLIC, 80]
    source = f"""
import os, socket
print(sorted(os.listdir("/proc/self/fd"), key=int)[:-1], open("/proc/net/dev").read().count(":"))
for attempt in (
    lambda: socket.getaddrinfo("{API}", 80),
    lambda: socket.create_connection(("127.0.0.1", {port}), 2),
    lambda: socket.create_connection(("{PUBLIC}", 80), 2),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53)),
):
    try:
        print("got through:", attempt())
    except OSError as error:
        print(type(error).__name__)
"""
    lines = (await confined.python(source)).splitlines()
    assert lines[0] == "['0', '1', '2'] 1"
    assert lines[1] == "gaierror"
    assert lines[2] == "ConnectionRefusedError"
    assert lines[3:] == ["OSError", "OSError"]
    assert confined.log.events == []


async def test_the_program_starts_as_it_would_without_a_forwarder(confined: Confined) -> None:
    signals = """
status = open("/proc/self/status").read()
print([line.split()[1] for line in status.splitlines() if line.startswith(("SigIgn", "SigBlk"))])
"""
    source = f"""
import os, subprocess
{signals}
print(os.getppid(), os.environ["HTTPS_PROXY"], subprocess.call(["sh", "-c", "exit 7"]))
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no children")
"""
    out = (await confined.python(source)).splitlines()
    plain = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", signals], capture_output=True, text=True)
    assert out[0] == plain.stdout.strip()
    assert out[1:] == ["1 http://127.0.0.1:3128 7", "no children"]
    assert await confined.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    status, out_, err = await confined.run("sh", "-c", "yes | head -1")
    assert (status, out_, err) == (0, "y\n", "")  # else `yes` would complain of a pipe that broke


async def test_the_forwarder_is_one_process_of_the_limit(confined: Confined) -> None:
    source = """
import os, signal
children = []
try:
    while True:
        children.append(os.fork())
        if not children[-1]:
            signal.pause()
except BlockingIOError:
    print(len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
"""
    with_one = int(await confined.python(source, Limits(pids=16)))
    spec = Spec(argv=(sys.executable, "-c", source), mounts=runtime_mounts((sys.executable,)), limits=Limits(pids=16))
    session = await confined.driver.start(spec)
    session.stdin.close()
    assert int(await session.stdout.read()) == with_one + 1
    await session.wait()


@pytest.mark.promise("egress-recorded")
async def test_a_sandbox_that_is_killed_leaves_no_connection_open_and_no_event_out(confined: Confined) -> None:
    source = f"""
import socket
peer = socket.create_connection(("127.0.0.1", 3128))
peer.sendall(b"CONNECT {API}:443 HTTP/1.1\\r\\n\\r\\n")
print(peer.recv(100), flush=True)
peer.recv(100)
"""
    argv = (sys.executable, "-c", source)
    spec = Spec(argv=argv, mounts=runtime_mounts(argv))
    session = await confined.driver.start(spec, proxy_of(confined.town, confined.log, *RULES))
    assert b"200" in await session.stdout.readline()
    session.kill()
    await session.wait()
    assert session.attending is not None
    await session.attending
    assert [event.why for event in confined.log.events if isinstance(event, Closed)] == ["cut by the sandbox"]


async def test_a_stranger_on_the_stream_ends_his_own_sandboxs_way_out_and_nothing_else(confined: Confined) -> None:
    """Whoever takes the forwarder over speaks frames as he likes; here he has none, so he kills it."""
    source = """
import os, signal, urllib.request
for one in os.listdir("/proc"):
    if one.isdigit() and int(one) not in (1, os.getpid()):
        os.kill(int(one), signal.SIGKILL)
try:
    urllib.request.urlopen("http://api.example.com/", timeout=5)
except OSError:
    print("no way out")
"""
    assert await confined.python(source) == "no way out"
    assert (
        await confined.python(f'import urllib.request; print(urllib.request.urlopen("http://{API}/").read())')
        == "b'ok'"
    )
