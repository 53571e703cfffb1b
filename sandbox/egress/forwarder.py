"""The forwarder that a sandbox with an outlet gets: what runs it, and what tells programs of it.

However a driver carries the stream (an inherited descriptor, an exec's pipes, a virtual port): the first line out of it
is `READY`, once the forwarder listens; from then on it is the outlet's (`driver.Outlet.serve`).
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Final

from sandbox.driver import Outlet
from sandbox.egress import inside
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

logger = logging.getLogger(__name__)

PORT: Final = inside.PORT
READY: Final = b"ready\n"

_PROXY: Final = f"http://127.0.0.1:{PORT}"
_DIRECT: Final = "localhost,127.0.0.1,::1"

ENVIRONMENT: Final[Mapping[str, str]] = {
    "HTTP_PROXY": _PROXY,
    "HTTPS_PROXY": _PROXY,
    "NO_PROXY": _DIRECT,
    "http_proxy": _PROXY,
    "https_proxy": _PROXY,
    "no_proxy": _DIRECT,
    "NODE_USE_ENV_PROXY": "1",
}
"""What ordinary clients look at; Node does since version 24."""


def command(python: str, incoming: str, outgoing: str) -> list[str]:
    """What to execute in the sandbox. Words after these are a program to become, once the forwarder listens.

    Args:
        incoming: the stream's descriptor as a number, or the path of a device.
        outgoing: the same; equal to `incoming` where one descriptor goes both ways.
    """
    return [python, "-I", "-S", "-c", _source(), incoming, outgoing]


def interpreter(spec: Spec) -> tuple[str, tuple[Mount, ...]]:
    """Which Python runs the forwarder, and the mounts that it needs beside those of `spec`."""
    if spec.image is not None:
        return "/usr/bin/python3", ()
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return python, tuple(mount for mount in runtime_mounts((python,)) if not _is_there(mount, spec.mounts))


def equipped(spec: Spec) -> tuple[Spec, str]:
    """`spec` with the forwarder's mounts and environment (its own variables win), and the Python that runs it."""
    python, mounts = interpreter(spec)
    return replace(spec, env={**ENVIRONMENT, **spec.env}, mounts=(*spec.mounts, *mounts)), python


async def attend(outlet: Outlet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the forwarder listens, then let the outlet have its stream, until that ends."""
    try:
        said = await reader.readexactly(len(READY))
    except (asyncio.IncompleteReadError, OSError):
        said = b""
    if said == READY:
        await outlet.serve(reader, writer)
    else:
        logger.warning("a forwarder did not start")
        writer.close()


@cache
def _source() -> str:
    return resources.files("sandbox.egress").joinpath("inside.py").read_text()


def _is_there(wanted: Mount, mounts: tuple[Mount, ...]) -> bool:
    """Whether a mount shows the same already."""
    for mount in mounts:
        if PurePosixPath(wanted.target).is_relative_to(mount.target):
            inner = os.path.relpath(wanted.target, mount.target)
            if os.path.realpath(os.path.join(mount.source, inner)) == os.path.realpath(wanted.source):
                return True
    return False
