"""The grammar of `pratique.toml`: one struct per table, and which keys belong to parts that are not built yet."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, field

from gateway.errors import ConfigError

Later: TypeAlias = Any
"""A key whose part is not built yet: refused, because a setting that is ignored is a promise not kept."""
_LATER = UNSET

S = TypeVar("S", bound=Struct)

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Guarantee: TypeAlias = Literal["filesystem", "network", "syscalls", "resources", "kernel"]


class Gateway(Struct, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:8808"


class Server(Struct, frozen=True, kw_only=True):
    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    env: dict[str, str] = {}
    mounts: tuple[str, ...] = ()
    sandbox: str = "standard"
    network: Literal["none", "host"] = "none"
    pack: str | None = None
    definitions: Literal["trust-on-first-use", "require-approval"] = "trust-on-first-use"
    deadline_s: Seconds = 60.0
    max_result_bytes: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 10_000_000
    image: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}@sha256:[0-9a-f]{64}$")] | None = None
    url: Later = _LATER
    env_from: Later = _LATER


class Profile(Struct, frozen=True, kw_only=True):
    driver: Literal["bubblewrap", "runc", "gvisor", "vm"] | None = None
    guarantees: tuple[Guarantee, ...] | None = None
    memory_mb: Count = 512
    pids: Count = 128
    egress: tuple[str, ...] = ()
    egress_mb: Count = 100
    egress_connections: Count = 1_000
    secrets: dict[str, str] = {}
    warm: Annotated[int, Meta(ge=0, le=16)] = 0


class Policy(Struct, frozen=True, kw_only=True):
    engine: Literal["embedded", "opa"] = "embedded"
    bundles: tuple[str, ...] = ()
    unsafe_without: tuple[str, ...] = ()
    url: Later = _LATER


class Approvals(Struct, frozen=True, kw_only=True):
    hold_s: Annotated[float, Meta(ge=0, le=600)] = 45.0
    expire_s: Seconds = 900.0


class Store(Struct, frozen=True, kw_only=True):
    url: Literal["sqlite"] = "sqlite"


class Llm(Struct, frozen=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1)] = "smollm2"
    isolation: Literal["process", "thread"] = "process"
    kv_memory_mb: Count = 512
    swap_memory_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 512
    scheduling: Literal["fifo", "round-robin", "priority", "vtc"] = "vtc"
    shares: dict[str, Annotated[float, Meta(gt=0, le=1_000)]] = {}
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1_024)] = 0
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 500
    agent_memory: Annotated[float, Meta(gt=0, le=1)] = 0.75
    step_tokens: Annotated[int, Meta(ge=32, le=65_536)] = 56
    checkpoint_tokens: Annotated[int, Meta(ge=0, le=100_000)] = 32
    summaries: bool = False
    deadline_s: Seconds = 600.0


class Extract(Struct, frozen=True, kw_only=True):
    question: Annotated[str, Meta(min_length=1, max_length=2_000)]
    type: Literal["boolean", "enum", "integer", "date", "pattern"]
    values: tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...] = ()
    minimum: int = 0
    maximum: int = 0
    pattern: str = ""


class File(Struct, frozen=True, kw_only=True):
    gateway: Gateway = field(default_factory=Gateway)
    server: dict[str, Server] = {}
    sandbox: dict[str, Profile] = {}
    policy: Policy = field(default_factory=Policy)
    approvals: Approvals = field(default_factory=Approvals)
    store: Store = field(default_factory=Store)
    llm: Llm | None = None
    extract: dict[str, Extract] = {}


TABLES: Mapping[str, type[Struct]] = {
    "gateway": Gateway,
    "server.NAME": Server,
    "sandbox.NAME": Profile,
    "policy": Policy,
    "approvals": Approvals,
    "store": Store,
    "llm": Llm,
    "extract.NAME": Extract,
}
"""Every table of the file with its keys, for the reference and its test."""


def parse(found: Path, table: Mapping[str, Any]) -> File:
    """The file as structs.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a part not built yet.
    """
    _check_keys(found, "", table, File)
    tables = [(path, inner, struct) for key, struct in TABLES.items() for path, inner in _tables(key, table)]
    for path, inner, struct in tables:
        _check_keys(found, path, inner, struct)
    _refuse_later(found, table)
    for path, inner, struct in tables:  # one by one first: the type check does not name the server
        _converted(found, path, inner, struct)
    return _converted(found, "", table, File)


def _tables(key: str, table: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The tables of the file that `key` speaks of; what is no table at all is left to the type check."""
    name, _, many = key.partition(".")
    outer = table.get(name)
    if not isinstance(outer, dict):
        return []
    inner = [(f"{name}.{each}", value) for each, value in outer.items()] if many else [(name, outer)]
    return [(path, value) for path, value in inner if isinstance(value, dict)]


def _check_keys(found: Path, path: str, table: Mapping[str, Any], struct: type[Struct]) -> None:
    known = {one.name: one for one in msgspec.structs.fields(struct)}
    for key in table:
        where = f"{path}.{key}" if path else key
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{found}: unknown key {where}; did you mean {path and path + '.'}{near}?")
        if known[key].type is Later:
            raise ConfigError(f"{found}: {where} is not available yet; remove it to go on without")


def _refuse_later(found: Path, table: Mapping[str, Any]) -> None:
    """Values of known keys whose part is not built yet."""
    if _value(table, "policy", "engine") == "opa":
        raise ConfigError(f"{found}: policy.engine: opa is not available yet; only embedded is")
    if str(_value(table, "store", "url")).startswith("postgresql"):
        raise ConfigError(f"{found}: store.url: postgresql is not available yet; only sqlite is")


def _value(table: Mapping[str, Any], name: str, key: str) -> object:
    inner = table.get(name)
    return inner.get(key) if isinstance(inner, dict) else None


def _converted(found: Path, path: str, table: Mapping[str, Any], struct: type[S]) -> S:
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        problem, _, inside = str(error).rpartition(" - at ")
        inside = inside.strip("`").removeprefix("$") if problem else ""
        where = (path + inside).removeprefix(".")
        mend = _mend(struct, inside.removeprefix(".").partition("[")[0])
        raise ConfigError(f"{found}: {where}: {problem or error}{mend}") from error


def _mend(struct: type[Struct], key: str) -> str:
    """What the key of a table may say instead, where that is short."""
    if struct is Server and key == "command":
        return '; it is a list, such as ["npx", "-y", "my-server"]'
    if struct is Server and key == "image":
        return '; it is "NAME@sha256:...", as `pratique image list` shows it'
    known = _literals(get_type_hints(struct).get(key))
    return f"; one of: {', '.join(known)}" if known else ""


def _literals(hint: object) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(word for inner in get_args(hint) for word in _literals(inner))
