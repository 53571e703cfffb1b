"""The proxy with its own resolver and sockets, in a network of the test's: what is reached there is reached by it.

The namespace has the addresses that matter as its own, each with a listener of ours, and no way to anywhere else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOSTS = """
127.0.0.1 localhost
93.184.216.34 public.example.com mixed.example.com
169.254.169.254 metadata.example.com mixed.example.com
10.1.2.3 private.example.com
100.64.1.1 carrier.example.com
127.0.0.1 loopback.example.com
2606:4700::1111 six.example.com
fd00:ec2::254 ula.example.com
"""

ADDRESSES = ("93.184.216.34", "169.254.169.254", "10.1.2.3", "100.64.1.1", "2606:4700::1111", "fd00:ec2::254")

SETUP = """
mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf &&
ip link set lo up && {addresses} exec "$@"
"""

INSIDE = """
import asyncio, json, socket
from sandbox.egress.proxy import Proxy
from sandbox.egress.rules import parse_rule
from support.egress import Log, inside

NAMES = [name + ".example.com" for name in
         ("public", "mixed", "metadata", "private", "carrier", "loopback", "six", "ula", "unknown")]

async def main():
    reached, answers = [], {}
    async def serve(reader, writer):
        reached.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        writer.close()
    listeners = [await asyncio.start_server(serve, host, 80) for host in ("0.0.0.0", "::")]
    for admits in (None, lambda address: True):
        proxy = Proxy.of(frozenset(parse_rule(name + ":80") for name in NAMES), Log(),
                         most_bytes=1 << 20, most_connections=100)
        if admits:
            proxy.visits.admits = admits
        reached.clear()
        async with inside(proxy) as sandbox:
            said = [await sandbox.ask(f"GET http://{name}/ HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode())
                    for name in NAMES]
            literal = await sandbox.ask(b"CONNECT 93.184.216.34:80 HTTP/1.1\\r\\n\\r\\n")
        print(json.dumps([{name: one[9:12].decode() for name, one in zip(NAMES, said)}, sorted(reached),
                          literal[9:12].decode()]))

asyncio.run(main())
"""


@pytest.mark.promise("egress-public-only")
@pytest.mark.skipif(shutil.which("ip") is None or shutil.which("unshare") is None, reason="no network namespaces")
def test_only_public_addresses_are_reached_whatever_the_resolver_says(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    root = Path(__file__).parents[2]
    addresses = "".join(f"ip addr add {one}/{128 if ':' in one else 32} dev lo && " for one in ADDRESSES)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--net",
            "--mount",
            "sh",
            "-c",
            SETUP.format(addresses=addresses),
            str(tmp_path),
            sys.executable,
            "-c",
            INSIDE,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (answers, reached, literal), (off_answers, off_reached, off_literal) = map(json.loads, done.stdout.splitlines())

    assert [name.partition(".")[0] for name, status in answers.items() if status == "200"] == ["public", "mixed", "six"]
    assert reached == ["2606:4700::1111", "93.184.216.34", "93.184.216.34"]
    assert literal == "403"

    assert [name.partition(".")[0] for name, status in off_answers.items() if status != "200"] == ["unknown"]
    assert {"169.254.169.254", "10.1.2.3", "100.64.1.1", "127.0.0.1", "fd00:ec2::254"} <= set(off_reached)
    assert off_literal == "403"
