"""Addresses of the host and past it, sockets of unusual families, and sockets that are files or have only a name."""

import ctypes
import os
import socket
import struct

from security.escape.probes.proc import opens_node
from security.escape.probes.table import Bait, numbered, probe, reaches

HOST, METADATA, PUBLIC, STUB, MULTICAST = "10.77.0.1", "169.254.169.254", "8.8.8.8", "127.0.0.53", "224.0.0.251"


def connects(name: str, address: tuple[str, int]) -> str:
    """Says its name to whoever answers: that is how it is known outside."""
    with socket.create_connection(address, 1.5) as caller:
        caller.sendall(f"{name}\n".encode())
    return f"connected to {address}"


def sends(name: str, address: tuple[str, int]) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.sendto(f"{name}\n".encode(), address)
    return f"sent to {address}"


@probe("tcp-to-loopback", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-loopback", ("127.0.0.1", bait.ports["tcp"]))


@probe("tcp-to-loopback-6", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-loopback-6", ("::1", bait.ports["tcp"]))


@probe("tcp-to-loopback-as-mapped", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-loopback-as-mapped", ("::ffff:127.0.0.1", bait.ports["tcp"]))


@probe("tcp-to-nowhere-which-is-loopback", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-nowhere-which-is-loopback", ("0.0.0.0", bait.ports["tcp"]))


@probe("tcp-to-an-address-of-the-host", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-an-address-of-the-host", (HOST, bait.ports["tcp"]))


@probe("tcp-to-metadata", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-metadata", (METADATA, 80))


@probe("tcp-to-a-public-address", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("tcp-to-a-public-address", (PUBLIC, 443))


@probe("dns-over-udp", stopped_by="network")
def _(bait: Bait) -> str | None:
    """A secret leaves as a name that somebody is asked for."""
    return sends("dns-over-udp", (PUBLIC, 53))


@probe("dns-over-tcp", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("dns-over-tcp", (PUBLIC, 53))


@probe("dns-to-the-hosts-stub", stopped_by="network")
def _(bait: Bait) -> str | None:
    return sends("dns-to-the-hosts-stub", (STUB, 53))


@probe("udp-to-a-public-address", stopped_by="network")
def _(bait: Bait) -> str | None:
    return sends("udp-to-a-public-address", (PUBLIC, 443))


@probe("udp-to-many", stopped_by="network")
def _(bait: Bait) -> str | None:
    return sends("udp-to-many", (MULTICAST, 5353))


@probe("icmp-as-anybody", stopped_by="network")
def _(bait: Bait) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as caller:
        caller.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + b"icmp-as-anybody\n", (HOST, 0))
    return "sent an echo request"


@probe("icmp-raw", stopped_by="privileges")
def _(bait: Bait) -> str:
    body = b"icmp-raw\n\0"
    head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    total = sum(struct.unpack(f"!{(len(head) + len(body)) // 2}H", head + body))
    total = (total >> 16) + (total & 0xFFFF)
    head = struct.pack("!BBHHH", 8, 0, ~(total + (total >> 16)) & 0xFFFF, 7, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as caller:
        caller.sendto(head + body, (HOST, 0))
    return "sent an echo request"


@probe("packets-made-by-hand", stopped_by="privileges")
def _(bait: Bait) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as caller:
        caller.bind(("sea", 0))
        caller.send(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + b"packets-made-by-hand\n" + bytes(40))
    return "sent a frame"


@probe("tunnel-device", stopped_by="privileges", judged="kernel")
def _(bait: Bait) -> str:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError:
        return opens_node(10, 200)
    return "open"


@probe("address-of-the-host-taken", stopped_by="network", judged="word")
def _(bait: Bait) -> str:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
    return f"may listen on {HOST}"


@probe("connections-of-the-host-listed", stopped_by="network", judged="word")
def _(bait: Bait) -> str | None:
    with open("/proc/net/tcp") as table:
        return "sees the gateway's port" if f":{bait.ports['tcp']:04X} " in table.read() else None


@probe("interfaces-listed", stopped_by="network", judged="word")
def _(bait: Bait) -> str | None:
    with open("/proc/net/dev") as table:
        return "sees the island's" if "sea:" in table.read() else None


@probe("netlink", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
    return "opened"


@probe("netlink-of-the-firewall", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).close()
    return "opened"


@probe("vsock", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    """The road to the hypervisor, which no network namespace holds."""
    numbered(bait.numbers["socket"], 40, socket.SOCK_STREAM, 0)
    return "opened"


@probe("crypto-sockets", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    numbered(bait.numbers["socket"], 38, socket.SOCK_SEQPACKET, 0)
    return "opened"


def _families(bait: Bait, families: dict[str, tuple[int, int, int]]) -> str:
    refused = OSError("none was tried")
    for name, (family, kind, protocol) in families.items():
        try:
            numbered(bait.numbers["socket"], family, kind, protocol)
        except OSError as error:
            refused = error
        else:
            return f"opened {name}"
    raise refused


@probe("bluetooth-and-other-radios", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    return _families(bait, {"bluetooth": (31, 3, 1), "nfc": (39, 3, 1), "802.15.4": (36, 2, 0), "can": (29, 3, 1)})


@probe("rare-families", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    rare = {"ax25": (3, 2, 0), "x25": (9, 5, 0), "rds": (21, 5, 0), "tipc": (30, 2, 0), "kcm": (41, 2, 0)}
    return _families(bait, {**rare, "smc": (43, 1, 0), "qipcrtr": (42, 2, 0), "mctp": (45, 2, 0), "pppox": (24, 2, 0)})


@probe("unix-sockets", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str:
    numbered(bait.numbers["socket"], 1, socket.SOCK_STREAM, 0)
    return "opened"


@probe("pair-of-another-family", stopped_by="filter", judged="kernel")
def _(bait: Bait) -> str | None:
    return reaches(bait, "socketpair", 16, socket.SOCK_RAW, 0, (ctypes.c_int * 2)())


def reaches_file(name: str, path: str) -> str:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1.5)
        caller.connect(path)
        caller.sendall(f"{name}\n".encode())
    return f"connected to {path}"


@probe("socket-with-only-a-name", stopped_by="sandbox")
def _(bait: Bait) -> str:
    return reaches_file("socket-with-only-a-name", "\0" + bait.abstract)


@probe("socket-file-in-a-mount", stopped_by="filter")
def _(bait: Bait) -> str:
    return reaches_file("socket-file-in-a-mount", f"{bait.given}/service.sock")


@probe("socket-file-in-a-writable-mount", stopped_by="filter")
def _(bait: Bait) -> str:
    return reaches_file("socket-file-in-a-writable-mount", f"{bait.box}/service.sock")
