"""The settings' types: one frozen tree, read once (`settings.py`), handed out by the composition root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

MODEL_SERVER = "llm"
"""The server that is the gateway's own model; no other may be called so."""


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
class ExtractOptions:
    """A question that may be put to hostile text, and the only answers that it has."""

    name: str
    question: str
    type: str
    """`boolean`, `enum`, `integer`, `date` or `pattern`; the last two stay as labelled as the text."""
    values: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmOptions:
    """The gateway's own model, and how it shares its time and memory."""

    model: str
    """`smollm2`, a folder in Hugging Face format, or a .gguf file."""
    isolation: str = "process"
    """`thread` or `process`: where the engine turns."""
    kv_memory_mb: int = 512
    """For keys and values, all sequences together."""
    swap_memory_mb: int = 512
    """Host memory for the blocks of preempted sequences."""
    scheduling: str = "vtc"
    """`fifo`, `round-robin`, `priority` or `vtc`."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Agent to its weight under `vtc`; 1 for whoever is not named."""
    precision: str = "auto"
    """`auto`, `float32`, `bfloat16` or `int8`."""
    threads: int = 0
    """Of the model's arithmetic; 0: half of the machine's cores."""
    queue: int = 500
    """Requests that may wait; more are refused."""
    agent_memory: float = 0.75
    """Share of that memory that one agent's running generations may come to hold; 1: all of it."""
    step_tokens: int = 56
    """How many tokens one step may run: how long a short request waits behind a long prompt."""
    checkpoint_tokens: int = 32
    """How often a running generation is written down, so that a crash loses no more than is computed again."""
    summaries: bool = False
    """Whether approval cards carry the model's words on the call."""
    deadline_s: float = 600.0
    cache: Path
    """Where converted models lie, for every gateway of this user."""


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
    llm: LlmOptions | None = None
    """None: no model; `/v1` says so, and no server is given samples."""
    extracts: Mapping[str, ExtractOptions] = field(default_factory=dict)
