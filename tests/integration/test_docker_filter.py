"""The engine's own filter, with our profile, tried from inside a container that runc runs."""

import asyncio
import json
import sys

import pytest
import support.drivers  # noqa: F401  # says where the tests' engine is

from sandbox import Spec, runtime_mounts
from sandbox.docker import Docker

TRIED = """
import ctypes, errno, json, os, platform
libc = ctypes.CDLL(None, use_errno=True)
HIGH = 1 << 32
NUMBERS = {
    "x86_64": (91, 56, 135, 41, 53, 16, 250, 321, 272),
    "aarch64": (52, 220, 92, 198, 199, 29, 219, 280, 97),
}
fchmod, clone, personality, socket, pair, ioctl, keyctl, bpf, unshare = NUMBERS[platform.machine()]
def call(number, *arguments):
    got = libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    return errno.errorcode[ctypes.get_errno()] if got == -1 else "passed"
name = ctypes.create_string_buffer(b"/tmp/f")
path = ctypes.addressof(name)
file = os.open("/tmp/f", os.O_WRONLY | os.O_CREAT)
print(json.dumps({
    "io_uring": call(425, 1, 0),
    "bpf": call(bpf, 0, 0, 0),
    "keyctl": call(keyctl, 0, -3, 1),
    "unshare": call(unshare, 0x10000000),
    "clone of a namespace": call(clone, 0x10000011, 0, 0, 0, 0),
    "clone3": call(435, 0, 0),
    "openat2": call(437, -100, path, 0, 0),
    "vsock": call(socket, 40, 1, 0),
    "vsock, high bits": call(socket, 40 | HIGH, 1, 0),
    "unix": call(socket, 1, 1, 0),
    "netlink": call(socket, 16, 3, 0),
    "alg": call(socket, 38, 5, 0),
    "inet": call(socket, 2, 1, 0),
    "inet, high bits": call(socket, 2 | HIGH, 1, 0),
    "inet6": call(socket, 10, 1, 0),
    "inet pair": call(pair, 2, 1, 0, 0),
    "TIOCSTI": call(ioctl, 0, 0x5412, path),
    "TIOCSTI, high bits": call(ioctl, 0, 0x5412 | HIGH, path),
    "FIOCLEX": call(ioctl, 0, 0x5451, 0),
    "personality": call(personality, 0x0040000),
    "plain personality": call(personality, 0xFFFFFFFF),
    "setuid bit": call(fchmod, file, 0o4755),
    "mode": call(fchmod, file, 0o755),
    "fchmodat2": call(452, -100, path, 0o4755, 0),
    "a later call": call(463, 0, 0, 0, 0),
    "memfd_secret": call(447, 0),
}))
"""

EXPECTED = {
    "io_uring": "EPERM",
    "bpf": "EPERM",
    "keyctl": "EPERM",
    "unshare": "EPERM",
    "clone3": "ENOSYS",
    "openat2": "ENOSYS",
    "clone of a namespace": "EPERM",
    "vsock": "EAFNOSUPPORT",
    "vsock, high bits": "EAFNOSUPPORT",
    "unix": "EAFNOSUPPORT",
    "netlink": "EAFNOSUPPORT",
    "alg": "EAFNOSUPPORT",
    "inet": "passed",
    "inet, high bits": "passed",
    "inet6": "passed",
    "inet pair": "EAFNOSUPPORT",
    "TIOCSTI": "EPERM",
    "TIOCSTI, high bits": "EPERM",
    "FIOCLEX": "passed",
    "personality": "EPERM",
    "plain personality": "passed",
    "setuid bit": "EPERM",
    "mode": "passed",
    "fchmodat2": "ENOSYS or EPERM",
    "a later call": "ENOSYS or EPERM",
    "memfd_secret": "EPERM",
}


@pytest.mark.promise("docker-filter")
async def test_the_engine_enforces_our_profile_call_by_call() -> None:
    argv = (sys.executable, "-I", "-S", "-c", TRIED)
    session = await Docker.find("runc").start(Spec(argv=argv, mounts=runtime_mounts(argv)))
    out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
    assert (await session.wait(), err) == (0, b"")
    got = json.loads(out)
    assert {name: answer for name, answer in got.items() if answer not in EXPECTED[name]} == {}
    assert got.keys() == EXPECTED.keys()
