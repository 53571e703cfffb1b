"""The settings' types: one frozen tree, read once (`settings.py`), handed out by the composition root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Definitions(StrEnum):
    TRUST_ON_FIRST_USE = "trust-on-first-use"
    REQUIRE_APPROVAL = "require-approval"


class Network(StrEnum):
    NONE = "none"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A header that the egress proxy adds, so that the server never holds what is in it."""

    header: str
    template: str = field(repr=False)
    """Its value, `${NAME}` standing for a variable of the gateway's own environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """A profile: which guarantees a server's sandbox must hold, its limits, and the way out."""

    guarantees: frozenset[str] = frozenset({"filesystem", "network", "syscalls", "resources"})
    driver: str | None = None
    """`bubblewrap`, `runc`, `gvisor` or `vm`; None: the cheapest that holds what is demanded."""
    memory_mb: int = 512
    pids: int = 128
    egress: tuple[str, ...] = ()
    """`host:port`, each exact: all that its servers may connect to, and only through the proxy."""
    egress_mb: int = 100
    """What one server process may send and receive through it, together."""
    egress_connections: int = 1_000
    """How many connections one server process may make."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """By `host:port`, one of `egress`."""
    warm: int = 0
    """How many processes of each server are kept started, ready for the next task."""


class Access(StrEnum):
    """What a server may do to a mounted path."""

    READ = "ro"
    REVIEW = "rw"
    """It writes to a copy, which a person reviews, applies or drops."""
    DIRECT = "direct"
    """It writes to the path itself, at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A path of the host that the sandbox sees at the same place."""

    path: Path
    access: Access = Access.READ


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    sandbox: str = "standard"
    network: Network = Network.NONE
    image: str | None = None
    """`name@sha256:...`, one that `pratique image build` made; None: the host's own programs."""
    pack: str | None = None
    definitions: Definitions = Definitions.TRUST_ON_FIRST_USE
    deadline_s: float = 60.0
    max_result_bytes: int = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The whole of `pratique.toml`, plus where the state lives."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 8808
    servers: Mapping[str, ServerOptions] = field(default_factory=dict)
    sandboxes: Mapping[str, SandboxOptions] = field(default_factory=dict)
    bundles: tuple[Path, ...] = ()
    unsafe_without: frozenset[str] = frozenset()
    """Kernel rules switched off by `[policy] unsafe_without = [...]`; shown loudly."""
    hold_s: float = 45.0
    expire_s: float = 900.0
