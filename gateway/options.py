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
class SandboxOptions:
    """A profile: which guarantees a server's sandbox must hold, and its limits."""

    guarantees: frozenset[str] = frozenset({"filesystem", "network", "syscalls", "resources"})
    memory_mb: int = 512
    pids: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A path of the host that the sandbox sees at the same place."""

    path: Path
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    sandbox: str = "standard"
    network: Network = Network.NONE
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
