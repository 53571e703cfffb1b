"""What a sandbox driver offers: the truth about this machine, and sessions."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sandbox.spec import Spec

FILESYSTEM: Final = "filesystem"
"""Of the host's files it reads and writes what was mounted, and nothing else."""
NETWORK: Final = "network"
"""It has no interface but a loopback of its own."""
SYSCALLS: Final = "syscalls"
"""The kernel's riskiest doors are shut: namespaces, mounts, io_uring, bpf, keyrings, foreign sockets ..."""
RESOURCES: Final = "resources"
"""Processes, memory and /tmp end at their limits, and the host does not notice."""

KERNEL: Final = "kernel"
"""A kernel of its own stands between it and the host's: a hole in that one is not yet a hole in the host."""

GUARANTEES: Final = (FILESYSTEM, NETWORK, SYSCALLS, RESOURCES)
"""What every driver is for; `KERNEL` is more, and held by some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What was verified by trying, on this machine, just now."""

    verified: frozenset[str]
    why_not: Mapping[str, str] = field(default_factory=dict)
    """For each guarantee that was not verified: what happened, and what mends it."""
    notes: tuple[str, ...] = ()
    """What holds, but in a weaker way than it could."""


class Session(Protocol):
    """One running sandbox. When it ends, by itself or by `kill`, nothing of it is left."""

    @property
    def stdin(self) -> asyncio.StreamWriter: ...

    @property
    def stdout(self) -> asyncio.StreamReader: ...

    @property
    def stderr(self) -> asyncio.StreamReader: ...

    async def wait(self) -> int:
        """The program's exit status (128 + n: ended by signal n), once every process of the sandbox is gone."""
        ...

    def kill(self) -> None:
        """End every process of the sandbox, now; `wait` tells when that is done. Harmless when it has ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One driver and the truth about it; `driver` is None where this machine has not even the parts."""

    name: str
    driver: "Driver | None"
    capabilities: Capabilities


class Outlet(Protocol):
    """The only way out of a sandbox without a network: what its forwarder carries here."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the forwarder's connections (`egress/mux.py`) until its stream ends. Never raises for what it says."""
        ...


class Driver(Protocol):
    """One way to run untrusted programs."""

    @property
    def name(self) -> str: ...

    async def probe(self) -> Capabilities:
        """Try each guarantee, within a deadline. Never raises; remember the answer, it costs a second or so."""
        ...

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> Session:
        """Run a program, with a forwarder to `outlet` on its loopback if there is one (`egress/forwarder.py`).

        Raises:
            SandboxError: it could not be started, and why.
        """
        ...
