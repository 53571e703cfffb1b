"""`python -m bench.egress`: what the egress proxy adds to a connection, and what it leaves of the throughput.

One client in one kind of sandbox, twice: with the host's network, straight to the server; without a network, through
forwarder and proxy. Both take turns in one run. The server is a process of its own, all of it on loopback.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop

from sandbox.bubblewrap import Bubblewrap
from sandbox.egress.budget import Budget
from sandbox.egress.events import Event
from sandbox.egress.proxy import Proxy
from sandbox.egress.reach import connect
from sandbox.egress.rules import Rule
from sandbox.egress.sockets import SocketStream
from sandbox.egress.visits import Visits
from sandbox.runtime import runtime_mounts
from sandbox.spec import Limits, Mount, Spec

HOST = "bench.example.com"
CONNECTIONS, MEGABYTES = 200, 256

SERVER = """
import socket, sys, threading
from sandbox.egress.tls import Authority
authority = Authority.for_hosts(["bench.example.com"])
block = bytes(1 << 20)
def serve(peer, context):
    try:
        with (context.wrap_socket(peer, server_side=True) if context else peer) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(int(peer.recv(64))):
                peer.sendall(block)
            peer.sendall(b"end")
    except OSError:
        pass
def accept(listener, context):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], context), daemon=True).start()
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
for listener, context in zip(listeners, (None, authority.context("bench.example.com"))):
    threading.Thread(target=accept, args=(listener, context), daemon=True).start()
open(sys.argv[1], "w").write(authority.certificate)
print(*(listener.getsockname()[1] for listener in listeners), flush=True)
sys.stdin.read()
"""

CLIENT = """
import json, socket, ssl, sys, time
plain, tls, proxied, connections, megabytes, bundle = *map(int, sys.argv[1:6]), sys.argv[6]
context = ssl.create_default_context(cafile=bundle)
def connected(port):
    if not proxied:
        return socket.create_connection(("127.0.0.1", port))
    peer = socket.create_connection(("127.0.0.1", 3128))
    peer.sendall(b"CONNECT bench.example.com:%d HTTP/1.1\\r\\n\\r\\n" % port)
    assert b" 200 " in peer.recv(1000)
    return peer
def drained(peer, count):
    peer.sendall(b"%d" % count)
    buffer, got = bytearray(1 << 18), 0
    while part := peer.recv_into(buffer):
        got += part
    assert got == (count << 20) + 3
times = []
for _ in range(connections):
    began = time.perf_counter()
    with connected(plain) as peer:
        drained(peer, 0)
    times.append(time.perf_counter() - began)
rates = []
for port, wrap in ((plain, False), (tls, True)):
    with connected(port) as peer:
        with context.wrap_socket(peer, server_hostname="bench.example.com") if wrap else peer as peer:
            began = time.perf_counter()
            drained(peer, megabytes)
            rates.append(megabytes * 1.048576 / (time.perf_counter() - began))
print(json.dumps([times, rates]))
"""


async def record(_event: Event) -> None:
    """The audit log's own cost is measured with the gateway."""


async def measured(
    driver: Bubblewrap, ports: tuple[int, int], folder: str, *, proxied: bool
) -> tuple[float, list[float]]:
    """Median milliseconds a connection, and MB/s: plain, TLS."""

    async def resolve(_host: str) -> list[str]:
        return ["93.184.216.34"]

    async def reach(_address: str, port: int) -> SocketStream:
        return await connect("127.0.0.1", port)

    budget = Budget(most_bytes=1 << 50, most_connections=1 << 30)
    visits = Visits(record=record, budget=budget, resolve=resolve, connect=reach)
    proxy = Proxy(rules=frozenset(Rule(HOST, port) for port in ports), visits=visits)
    words = [*ports, int(proxied), CONNECTIONS, MEGABYTES, f"{folder}/ca.pem"]
    argv = (sys.executable, "-I", "-c", CLIENT, *map(str, words))
    mounts = (*runtime_mounts(argv), Mount(source=folder, target=folder))
    spec = Spec(argv=argv, mounts=mounts, limits=Limits(), network="none" if proxied else "host")
    session = await driver.start(spec, proxy if proxied else None)
    said, complained = await asyncio.gather(session.stdout.read(), session.stderr.read())
    await session.wait()
    if complained:
        raise SystemExit(complained.decode())
    times, rates = json.loads(said)
    return 1e3 * statistics.median(times), rates


async def compare(rounds: int, ports: tuple[int, int], folder: str) -> None:
    driver, pairs = Bubblewrap.find(), []
    for number in range(rounds + 1):
        direct = await measured(driver, ports, folder, proxied=False)
        ours = await measured(driver, ports, folder, proxied=True)
        if number:  # the first round warms up
            pairs.append((direct, ours))
    median = statistics.median
    print("| | direct | through the proxy | |\n|---|---|---|---|")
    before, after = median(one[0] for one, _ in pairs), median(two[0] for _, two in pairs)
    print(f"| a connection, ms | {before:.2f} | {after:.2f} | +{after - before:.2f} ms |")
    for place, what in enumerate(("plain", "TLS")):
        before, after = median(one[1][place] for one, _ in pairs), median(two[1][place] for _, two in pairs)
        ratio = median(two[1][place] / one[1][place] for one, two in pairs)
        print(f"| {what}, MB/s | {before:,.0f} | {after:,.0f} | {ratio:.2f}x |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", SERVER, f"{folder}/ca.pem"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            plain, tls = map(int, server.stdout.readline().split())
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(compare(rounds, (plain, tls), folder))
            server.communicate()


if __name__ == "__main__":
    main()
