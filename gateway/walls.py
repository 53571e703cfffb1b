"""From a server's settings to a running sandbox: the only place where options become a `Spec`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import UpstreamError
from gateway.options import Access, Network, SandboxOptions, ServerOptions
from gateway.stores.memory import Confines
from sandbox.driver import FILESYSTEM, NETWORK, Capabilities, Driver, Session
from sandbox.errors import SandboxError
from sandbox.mounts import SYSTEM
from sandbox.runtime import runtime_mounts
from sandbox.spec import MIB, Limits, Mount, Spec

_DOWNLOADERS = frozenset({"npx", "uvx", "pipx"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """Starts servers in the sandbox that their profile describes, with the driver that was tried on this machine."""

    driver: Driver
    capabilities: Capabilities
    profiles: Mapping[str, SandboxOptions]
    state: Path
    """The gateway's own folder: no server ever sees it."""

    async def launch(self, server: ServerOptions, profile: str) -> Session:
        """Start one server.

        Raises:
            UpstreamError: a guarantee of the profile does not hold here, or the sandbox could not be started.
        """
        confines = self.confines(server)
        if missing := confines.demanded - confines.verified:
            why = "; ".join(f"{one}: {self.capabilities.why_not.get(one, 'not enforced')}" for one in sorted(missing))
            raise UpstreamError(f"server '{server.name}': sandbox '{profile}' cannot be had here: {why}")
        try:
            spec = spec_of(server, self.profiles[profile])
            if shown := exposed((mount.source for mount in spec.mounts), self.state):
                raise UpstreamError(f"server '{server.name}': {shown}")
            return await self.driver.start(spec)
        except SandboxError as error:
            raise UpstreamError(f"server '{server.name}' could not be started in its sandbox: {error}") from error

    def confines(self, server: ServerOptions) -> Confines:
        """What is promised of this server's walls, and what was verified. `network = "host"` gives one promise up."""
        demanded, verified = self.profiles[server.sandbox].guarantees, self.capabilities.verified
        if server.network is Network.HOST:
            demanded -= {NETWORK}
        sealed = {FILESYSTEM, NETWORK} <= verified and server.network is Network.NONE and not server.mounts
        return Confines(demanded=demanded, verified=verified, sealed=sealed)


def spec_of(server: ServerOptions, profile: SandboxOptions) -> Spec:
    """Everything the server will see: its interpreter, its mounts, its own environment variables.

    Raises:
        SandboxError: there is no such program, or what it names cannot be there.
    """
    own = tuple(
        Mount(source=str(m.path), target=str(m.path), writable=m.access is not Access.READ) for m in server.mounts
    )
    mounts = (*runtime_mounts(server.command), *own)
    if server.network is Network.NONE and Path(server.command[0]).name in _DOWNLOADERS:
        raise SandboxError(
            "program",
            f"{server.command[0]} downloads what it starts, and this server has no network",
            'Install the package and name its program, or write network = "host".',
        )
    for word in server.command[1:]:
        if word.startswith("/") and Path(word).is_file() and not _is_seen(word, mounts):
            folder = Path(word).parent
            raise SandboxError("mount", f"{word} is not in the sandbox", f'Add mounts = ["{folder}:ro"].')
    return Spec(
        argv=server.command,
        env=server.env,
        mounts=mounts,
        limits=Limits(memory_bytes=profile.memory_mb * MIB, pids=profile.pids),
        network="host" if server.network is Network.HOST else "none",
    )


def exposed(sources: Iterable[str | Path], state: Path) -> str:
    """Which mount would show a server the gateway's keys and sockets, as a sentence; empty where none would."""
    own = os.path.realpath(state)
    for shown in sources:
        source = os.path.realpath(shown)
        if Path(own).is_relative_to(source) or Path(source).is_relative_to(own):
            return (
                f"mounting {shown} would show it the gateway's own keys in {state}:"
                " mount a narrower folder, or give the gateway another --state"
            )
    return ""


def _is_seen(path: str, mounts: tuple[Mount, ...]) -> bool:
    """Whether a file of the host is at its own place inside."""
    real = os.path.realpath(path)
    return any(
        Path(one).is_relative_to(root)
        for one in (path, real)
        for root in (*SYSTEM, *(mount.target for mount in mounts))
    )
