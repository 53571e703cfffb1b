"""What is to run in a sandbox, and what it may reach: everything it can see is named here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A path of the host at a path of the sandbox; it covers everything beneath."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a sandbox may use."""

    memory_bytes: int = 512 * MIB
    """Of all its processes together."""
    pids: int = 128
    """Processes and threads together."""
    cpu_s: int | None = None
    """Processor seconds of any one process; None: no end, as a server needs."""
    files: int = 1024
    """Open descriptors of any one process."""
    tmp_bytes: int = 64 * MIB
    """What /tmp holds; it is memory, and counts as such too."""
    file_bytes: int = 1024 * MIB
    """The size of any one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A root file system instead of the host's programs and libraries (`images/`). Read-only, and known by content."""

    digest: str
    """`sha256:` and 64 hexadecimal digits, of its archive."""
    archive: str
    """The host's path of that archive: an uncompressed tar, as `docker import` takes it."""
    root: str
    """The host's path of the same, unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One program and its walls."""

    argv: tuple[str, ...]
    """The program (a path, or a name looked up in the host's PATH, or in the image's) and its arguments."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All that passes of any environment, over `PATH`, `HOME=/tmp`, `TMPDIR` and `LANG`; may hold secrets."""
    mounts: tuple[Mount, ...] = ()
    image: Image | None = None
    """None: programs and libraries are the host's own, as `mounts.py` lists them."""
    limits: Limits = Limits()
    network: Literal["none", "host"] = "none"
    """`host` shares the host's interfaces, its loopback and abstract sockets included: no guarantee is left of it."""
    cwd: str = "/tmp"  # noqa: S108  # the sandbox's own
