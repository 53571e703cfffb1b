"""A network namespace of the test's own, with listeners where a cloud's metadata, a resolver or a neighbour would be.

It has no way out: a hole in a sandbox shows as a connection to us, and no packet leaves the machine.
"""

import asyncio
import ctypes
import os
import re
import secrets
import socket
import struct
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from security.escape.probes.network import HOST, METADATA, MULTICAST, PUBLIC, STUB

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000
NAMED: Final = "/run/netns"
PREFIX: Final = "pratique-escape-"
OUR_ETHERTYPE: Final = 0x88B5  # IEEE 802: for local experiments


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    name: str
    thread: ThreadPoolExecutor
    """Its one thread lives in the namespace, and so does whatever it starts."""

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """On a loop of its own, there. The thread outlives it: sandboxes end with the thread that started them."""
        return self.call(lambda: asyncio.run(work()))

    def call(self, work: Callable[[], T]) -> T:
        return self.thread.submit(work).result()


@contextmanager
def island() -> Iterator[Island]:
    _sweep()
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "add", "sea", "type", "veth", "peer", "name", "far")
        for end in ("sea", "far"):
            _ip("-n", name, "link", "set", end, "up")
        for address in (f"{HOST}/24", f"{METADATA}/32", f"{PUBLIC}/32"):
            _ip("-n", name, "address", "add", address, "dev", "sea")
        _ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "sea")
        with ThreadPoolExecutor(1, "island", lambda: _enter(name)) as thread:
            yield Island(name=name, thread=thread)
    finally:
        _ip("netns", "delete", name)


def _sweep() -> None:
    """Islands whose test was killed."""
    for name in os.listdir(NAMED) if os.path.isdir(NAMED) else ():
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(PREFIX).partition('-')[0]}"):
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _enter(name: str) -> None:
    with open(f"{NAMED}/{name}") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    with open("/proc/thread-self/net/dev") as table:
        assert "eth0" not in table.read(), "this is the machine's own network"
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as groups:  # the island's own setting
        groups.write("0 2147483647")


# ---- listeners ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Whoever reaches one says which probe it is."""

    ports: dict[str, int]
    streams: tuple[socket.socket, ...]
    datagrams: tuple[socket.socket, ...]

    def heard(self) -> dict[str, str]:
        """Names of probes that came since the last time, each with where."""
        said: dict[str, str] = {}
        for listener in self.streams:
            for caller in _callers(listener):
                with caller:
                    said |= dict.fromkeys(
                        _names(_received(caller)) or ["nobody in particular"], f"reached {listener.getsockname()}"
                    )
        for listener in self.datagrams:
            while part := _received(listener):
                said |= dict.fromkeys(_names(part), f"reached {listener.getsockname()}")
        return said


@contextmanager
def listeners(abstract: str, *files: str) -> Iterator[Listeners]:
    """To be opened in the island. Besides the network's: Unix sockets of this name and at these paths."""
    with ExitStack() as closes:

        def made(listening: socket.socket) -> socket.socket:
            listening.setblocking(False)
            return closes.enter_context(listening)

        def tcp(address: str, port: int = 0) -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return made(socket.create_server((address, port), family=family))

        def udp(address: str, port: int) -> socket.socket:
            listening = made(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            listening.bind((address, port))
            return listening

        def unix(path: str) -> socket.socket:
            listening = made(socket.socket(socket.AF_UNIX))
            listening.bind(path)
            if not path.startswith("\0"):
                os.chmod(path, 0o666)
            listening.listen()
            return listening

        first, gateway = tcp("127.0.0.1"), tcp("127.0.0.1")
        ports = {"tcp": first.getsockname()[1], "gateway": gateway.getsockname()[1]}
        streams = [first, gateway, tcp(HOST, ports["tcp"]), tcp("::1", ports["tcp"]), tcp(HOST, ports["gateway"])]
        streams += [tcp(METADATA, 80), tcp(PUBLIC, 443), tcp(PUBLIC, 53), tcp("127.0.0.1", 2375)]
        streams += [unix("\0" + abstract), *map(unix, files)]
        many = udp(MULTICAST, 5353)
        joined = socket.inet_aton(MULTICAST) + socket.inet_aton(HOST)
        many.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        echo = made(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        frames = made(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, struct.unpack("H", b"\x88\xb5")[0]))
        frames.bind(("far", OUR_ETHERTYPE))
        datagrams = (udp(PUBLIC, 53), udp(PUBLIC, 443), udp(STUB, 53), many, echo, frames)
        yield Listeners(ports=ports, streams=tuple(streams), datagrams=datagrams)


def _callers(listener: socket.socket) -> Iterator[socket.socket]:
    with suppress(BlockingIOError):
        while True:
            caller = listener.accept()[0]
            caller.settimeout(1.0)  # it has been said: a probe ends before its sandbox does
            yield caller


def _received(there: socket.socket) -> bytes:
    try:
        return there.recv(65536)
    except (BlockingIOError, TimeoutError, ConnectionError):
        return b""


def _names(said: bytes) -> list[str]:
    """Lines that could be a probe's name, whatever headers come before."""
    return [name.decode() for name in re.findall(rb"[a-z][a-z0-9-]{3,}(?=\n)", said)]
