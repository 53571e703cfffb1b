"""`pratique init`, `serve` and `console`: from nothing to a running gateway and a way to look at it."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from gateway.cli.client import operator
from gateway.cli.logs import log_to_stderr
from gateway.cli.show import Config, Json, State, print_json
from gateway.errors import ConfigError
from gateway.options import Network
from gateway.settings import NAME, default_state, find_file, read_settings
from policies.packs import bundled

EMPTY = """\
# Every key: docs/reference.md. Start with `pratique serve`, then `pratique grant`.
[gateway]
listen = "127.0.0.1:8808"

# [server.files]                       # a small letter first, then letters, digits and "-"
# command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/data"]
# mounts = ["/data:ro"]                # what the sandbox sees; ":rw": it writes to a copy that you review
# network = "none"                     # "host" opens it (npx needs it to download)
# pack = "filesystem"                  # without one, everything asks

# [llm]                                # a model of its own, with the extra pratique[llm]: OpenAI clients at /v1
# model = "smollm2"
"""
SECRET = re.compile(r"(?i)key|token|secret|passw|credential|auth")
"""Names of environment variables whose values do not go into a file that people commit."""


def init(
    mcp_servers: Annotated[
        Path | None,
        typer.Argument(metavar="[MCPSERVERS_JSON]", help="A desktop agent's file of mcpServers.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The pratique.toml to write.", show_default=False)
    ] = None,
) -> None:
    """Write a pratique.toml, from a desktop agent's mcpServers file or an empty one; never overwrites."""
    path = config or Path("pratique.toml")
    text = EMPTY if mcp_servers is None else _translated(mcp_servers)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; nothing was changed") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    print(f"wrote {path}")


def serve(config: Config = None, state: State = None) -> None:
    """Run the gateway until it is told to stop."""
    from gateway import bootstrap  # noqa: PLC0415  heavy, and other commands need none of it

    found = config or find_file()
    options = read_settings(found, state)
    if found is None:
        _say("no settings file found; no servers: `pratique init` writes one")
    else:
        _say(f"{found.absolute()} names {_counted(len(options.servers))}")
    log_to_stderr()
    if options.servers:
        _say(f"starting {_counted(len(options.servers))}; nothing answers until they do, or for 20 s ...")

    def ready(gateway: bootstrap.Running) -> None:
        for server in options.servers.values():
            if server.network is Network.HOST:
                print(f"WARNING: server {server.name} shares the host's network; nothing of it is held back")
        if options.unsafe_without:
            print(f"WARNING: kernel rules switched off: {', '.join(sorted(options.unsafe_without))}")
        if gateway.unknown:
            print(f"{gateway.unknown} calls have an unknown outcome; see `pratique task settle`")
        print(f"agents: {gateway.url}/mcp\nconsole (opens once): {gateway.console_link()}", flush=True)
        if gateway.mounted:
            model = gateway.mounted.model
            print(f"model: {gateway.url}/v1 ({model.name}; `pratique llm models` says how far it is)", flush=True)

    def stopping() -> None:
        _say("stopping: what runs has some seconds to end, then servers are ended and the log is closed ...")

    uvloop.run(bootstrap.serve(options, ready=ready, stopping=stopping))


def console(state: State = None, as_json: Json = False) -> None:
    """Print a fresh link to the console; it opens once."""
    link = operator(state or default_state()).post("/console-links")
    if as_json:
        print_json(link)
    else:
        print(link["url"])


def _say(sentence: str) -> None:
    """Tell how the start goes; stdout is for what it comes to."""
    print(f"pratique: {sentence}", file=sys.stderr, flush=True)


def _counted(servers: int) -> str:
    return "1 server" if servers == 1 else f"{servers} servers"


def _translated(path: Path) -> str:
    """The TOML that starts the same servers."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    servers = table.get("mcpServers") if isinstance(table, dict) else None
    if not isinstance(servers, dict):
        raise ConfigError(f"{path}: holds no mcpServers object")
    parts = ['[gateway]\nlisten = "127.0.0.1:8808"\n']
    taken: dict[str, str] = {}
    for theirs, server in servers.items():
        name = _slug(theirs)
        if not NAME.fullmatch(name):
            raise ConfigError(f"{path}: no name of ours can be made of {theirs!r}; rename it there")
        if name in taken:
            raise ConfigError(f"{path}: {taken[name]!r} and {theirs!r} would both be called {name!r}; rename one there")
        taken[name] = theirs
        parts.append(_section(path, name, server))
    return "\n".join(parts)


def _section(path: Path, name: str, server: Any) -> str:
    if not isinstance(server, dict):
        raise ConfigError(f"{path}: mcpServers.{name} is not an object")
    if "url" in server:
        return f"# [server.{name}]: servers at a url are not available yet\n"
    command, env = [server.get("command"), *server.get("args", [])], server.get("env", {})
    if not all(isinstance(word, str) for word in command):
        raise ConfigError(f"{path}: mcpServers.{name} needs a command and args that are strings")
    lines = [f"[server.{name}]", f"command = [{', '.join(_quoted(word) for word in command)}]"]
    plain = {key: value for key, value in env.items() if not SECRET.search(key)}
    if plain:
        lines.append(f"env = {{ {', '.join(f'{_quoted(k)} = {_quoted(str(v))}' for k, v in plain.items())} }}")
    lines.extend(
        f"# {json.dumps(key)} is left out: secrets never stand in this file" for key in env if key not in plain
    )
    lines.append(_mounts(command[1:]))
    lines.extend(f'pack = "{pack}"' for pack in bundled() if any(f"server-{pack}" in word for word in command))
    lines.append('# network = "host"             # if it must reach the network; npx and uvx need it to download')
    return "\n".join(lines) + "\n"


def _mounts(arguments: list[str]) -> str:
    """The folders and files that the server is given by name, to be read: a person widens it where it must write."""
    named = [word for word in arguments if word.startswith("/") and Path(word).exists() and not _is_program(word)]
    if not named:
        return '# mounts = ["~/folder:ro"]     # what the sandbox sees; ":rw": it writes to a copy that you review'
    return f'mounts = [{", ".join(_quoted(f"{word}:ro") for word in named)}]  # ":rw": writes to a copy that you review'


def _is_program(word: str) -> bool:
    """Whether a path is part of what runs, which the sandbox finds by itself."""
    return Path(word).is_file() and Path(word).suffix in (".js", ".mjs", ".cjs", ".py")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24]


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's, but for DEL, which JSON leaves bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
