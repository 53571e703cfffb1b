"""Settings: `pratique.toml` in, one frozen `Options` out. Nothing else of the program reads the file.

The file's grammar is `settings_grammar.py`. An unknown key, a wrong type, a name that breaks the rules or a part that
is not built yet is a `ConfigError` naming the file and the key, never a key that is ignored.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.llm.extracts import answer_of
from gateway.options import (
    MODEL_SERVER,
    Access,
    Definitions,
    ExtractOptions,
    LlmOptions,
    Mount,
    Network,
    Options,
    SandboxOptions,
    Secret,
    ServerOptions,
)
from gateway.settings_grammar import Extract, File, Llm, Profile, Server, parse
from sandbox.egress.rules import parse_rule

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")

NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
"""A server's name, so that a tool's public name `server__tool` splits at the first `__`."""

STRICT = SandboxOptions(memory_mb=256, pids=32)
STANDARD = SandboxOptions()
VM = SandboxOptions(driver="vm")
SHIPPED: Mapping[str, SandboxOptions] = {"strict": STRICT, "standard": STANDARD, "vm": VM}


def read_settings(path: Path | None = None, state: Path | None = None) -> Options:
    """The settings of `path`, or of the first file the lookup finds; the defaults where there is none.

    Raises:
        ConfigError: the file cannot be read, parsed or understood.
    """
    found = path or find_file()
    if found is None:
        return Options(state=state or default_state(), sandboxes=dict(SHIPPED))
    try:
        table = tomllib.loads(found.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{found}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{found}: {_first_line(error)}") from error
    return _options(parse(found, table), found, state or default_state())


def find_file() -> Path | None:
    """`./pratique.toml`, else `$XDG_CONFIG_HOME/pratique/pratique.toml`."""
    candidates = (Path("pratique.toml"), _home("XDG_CONFIG_HOME", ".config") / "pratique" / "pratique.toml")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def default_state() -> Path:
    """`$XDG_STATE_HOME/pratique`."""
    return _home("XDG_STATE_HOME", ".local/state") / "pratique"


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/pratique`."""
    return _home("XDG_CACHE_HOME", ".cache") / "pratique"


def _home(variable: str, fallback: str) -> Path:
    """A base directory (XDG: a relative one is as good as none)."""
    value = Path(os.environ.get(variable, ""))
    return value if value.is_absolute() else Path.home() / fallback


def _options(file: File, found: Path, state: Path) -> Options:
    host, port = _listen(file.gateway.listen, found)
    sandboxes = dict(SHIPPED) | {name: _profile(name, profile, found) for name, profile in file.sandbox.items()}
    folder = found.resolve().parent
    options = Options(
        state=state,
        host=host,
        port=port,
        servers={name: _server(name, server, sandboxes, found) for name, server in file.server.items()},
        sandboxes=sandboxes,
        bundles=tuple(folder / Path(bundle).expanduser() for bundle in file.policy.bundles),
        unsafe_without=frozenset(file.policy.unsafe_without),
        hold_s=file.approvals.hold_s,
        expire_s=file.approvals.expire_s,
        llm=_llm(file.llm, found) if file.llm else None,
        extracts={name: _extract(name, one, found) for name, one in file.extract.items()},
    )
    if options.extracts and options.llm is None:
        raise ConfigError(f"{found}: extract.{min(options.extracts)}: there is no model to ask; add [llm]")
    _check_direct(options, found)
    return options


def _llm(llm: Llm, found: Path) -> LlmOptions:
    """A model that is a path is made absolute; whether there is one is told when it is loaded."""
    is_path = "/" in llm.model or llm.model.endswith(".gguf") or llm.model.startswith("~")
    model = str(found.resolve().parent / Path(llm.model).expanduser()) if is_path else llm.model
    return LlmOptions(**msgspec.structs.asdict(llm) | {"model": model}, cache=default_cache())


def _extract(name: str, extract: Extract, found: Path) -> ExtractOptions:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{found}: extract.{name}: a name is a small letter, then small letters, digits or '-'")
    options = ExtractOptions(name=name, **msgspec.structs.asdict(extract))
    try:
        answer_of(options)
    except ValueError as error:
        raise ConfigError(f"{found}: extract.{name}: {error}") from error
    return options


def _listen(listen: str, found: Path) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigError(f'{found}: gateway.listen must be an address and a port, such as "127.0.0.1:8808"')
    if not address.is_loopback:
        raise ConfigError(
            f"{found}: gateway.listen: {host!r}: Pratique listens on loopback only; put a TLS proxy of yours in front"
        )
    return host, int(port)


def _profile(name: str, profile: Profile, found: Path) -> SandboxOptions:
    guarantees = STANDARD.guarantees if profile.guarantees is None else frozenset(profile.guarantees)
    try:
        allowed = {str(rule): rule for rule in map(parse_rule, profile.egress)}
        secrets = {str(parse_rule(host)): _secret(text) for host, text in profile.secrets.items()}
    except ValueError as error:
        raise ConfigError(f"{found}: sandbox.{name}: {error}") from error
    if strangers := secrets.keys() - allowed.keys():
        raise ConfigError(f"{found}: sandbox.{name}.secrets: {min(strangers)} is not in its egress list")
    return SandboxOptions(
        guarantees=guarantees,
        driver=profile.driver,
        memory_mb=profile.memory_mb,
        pids=profile.pids,
        egress=tuple(allowed),
        egress_mb=profile.egress_mb,
        egress_connections=profile.egress_connections,
        secrets=secrets,
        warm=profile.warm,
    )


def _secret(text: str) -> Secret:
    """`Header: value`, the value with the names of the gateway's variables."""
    header, colon, template = (part.strip() for part in text.partition(":"))
    if not colon or not _HEADER.fullmatch(header) or not template:
        raise ValueError('a secret reads "Header: value", such as "Authorization: Bearer ${TOKEN}"')
    if not _VARIABLE.search(template):
        raise ValueError(f"the value of {header} names no variable: write ${{NAME}}, not the secret itself")
    return Secret(header=header, template=template)


def _server(name: str, server: Server, sandboxes: Mapping[str, SandboxOptions], found: Path) -> ServerOptions:
    key = f"server.{name}"
    if name == MODEL_SERVER:
        raise ConfigError(f"{found}: {key}: the gateway's own model is called {name}; choose another name")
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{found}: {key}: a server's name is a small letter, then at most 23 small letters, digits or '-'"
        )
    if server.sandbox not in sandboxes:
        raise ConfigError(
            f"{found}: {key}.sandbox: no profile is called {server.sandbox!r}; there are {_names(sandboxes)}"
            " (a driver is named in a profile: [sandbox.NAME] driver = ...)"
        )
    profile, mounts = sandboxes[server.sandbox], tuple(_mount(mount, f"{key}.mounts", found) for mount in server.mounts)
    if profile.warm and any(mount.access is Access.REVIEW for mount in mounts):
        raise ConfigError(
            f"{found}: {key}: profile {server.sandbox!r} keeps processes warm, and a reviewed mount (:rw) is one task's"
            " own: choose a profile without `warm`, or mount it :ro or :direct"
        )
    if profile.egress and server.network == "host":
        raise ConfigError(
            f'{found}: {key}: network = "host" goes past the egress list of profile {server.sandbox!r}: leave one out'
        )
    return ServerOptions(
        name=name,
        command=server.command,
        env=_env(server.env, f"{key}.env", found),
        mounts=mounts,
        sandbox=server.sandbox,
        network=Network(server.network),
        image=server.image,
        pack=_pack(server.pack, found),
        definitions=Definitions(server.definitions),
        deadline_s=server.deadline_s,
        max_result_bytes=server.max_result_bytes,
    )


def _env(env: Mapping[str, str], key: str, found: Path) -> Mapping[str, str]:
    for name, value in env.items():
        if not name or "=" in name:
            raise ConfigError(f"{found}: {key}: {name!r}: a variable's name is not empty and holds no '='")
        if "\0" in name + value:
            raise ConfigError(f"{found}: {key}: {name!r}: no variable can hold NUL")
    return env


def _mount(text: str, key: str, found: Path) -> Mount:
    """`PATH`, `PATH:ro`, `PATH:rw` or `PATH:direct`; read-only unless it says otherwise."""
    bare, colon, mode = text.rpartition(":")
    if not colon or "/" in mode:
        bare, mode = text, "ro"
    if mode not in set(Access):
        raise ConfigError(f"{found}: {key}: {text!r}: the mode {mode!r} is none of {', '.join(Access)}")
    path = Path(bare).expanduser()
    if not path.is_absolute():
        raise ConfigError(f'{found}: {key}: {text!r} is not absolute (write "/folder:ro" or "~/folder:ro")')
    return Mount(path=Path(os.path.normpath(path)), access=Access(mode))


def _check_direct(options: Options, found: Path) -> None:
    """Whoever writes to a folder directly can put a link, or another file, in place of anything in it."""
    servers = options.servers.values()
    rules = (found, *options.bundles, *(Path(one.pack) for one in servers if one.pack and os.path.isabs(one.pack)))
    for writer, folder in (
        (one.name, mount.path) for one in servers for mount in one.mounts if mount.access is Access.DIRECT
    ):
        for rule in rules:
            if _is_in(rule, folder, or_is_it=True):
                raise ConfigError(
                    f"{found}: server.{writer}.mounts: {folder} is written to directly, and {rule} is in it: the server"
                    " could change the gateway's rules; mount a narrower folder, or mount it :ro or :rw"
                )
        for other, inner in ((one.name, mount.path) for one in servers for mount in one.mounts):
            if _is_in(inner, folder):
                raise ConfigError(
                    f"{found}: server.{other}.mounts: {inner} lies in {folder}, which server.{writer} writes to"
                    " directly: it could put a link there; mount the outer one, or move the inner one out"
                )


def _is_in(path: Path, folder: Path, *, or_is_it: bool = False) -> bool:
    """Whether the way to it leads through that folder, as it is written or in truth."""
    ways, outers = ({one, Path(os.path.realpath(one))} for one in (path, folder))
    return any(way.is_relative_to(outer) and (or_is_it or way != outer) for way in ways for outer in outers)


def _pack(pack: str | None, found: Path) -> str | None:
    """A shipped pack's name as it is, a file's path made absolute."""
    if pack is None or ("/" not in pack and not pack.endswith(".toml")):
        return pack
    return str(found.resolve().parent / Path(pack).expanduser())


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
