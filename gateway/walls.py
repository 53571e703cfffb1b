"""From a server's settings to a running sandbox: the only place where options become a `Spec`."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import UpstreamError
from gateway.options import Network, SandboxOptions, ServerOptions
from gateway.stores.memory import Confines
from sandbox.driver import FILESYSTEM, NETWORK, Capabilities, Driver, Session
from sandbox.errors import SandboxError
from sandbox.runtime import runtime_mounts
from sandbox.spec import MIB, Limits, Mount, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """Starts servers in the sandbox that their profile describes, with the driver that was tried on this machine."""

    driver: Driver
    capabilities: Capabilities
    profiles: Mapping[str, SandboxOptions]

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
            return await self.driver.start(spec_of(server, self.profiles[profile]))
        except SandboxError as error:
            raise UpstreamError(f"server '{server.name}' could not be started in its sandbox: {error}") from error

    def confines(self, server: ServerOptions) -> Confines:
        """What is promised of this server's walls, and what was verified. `network = "host"` gives one promise up."""
        demanded, verified = self.profiles[server.sandbox].guarantees, self.capabilities.verified
        if server.network is Network.HOST:
            demanded -= {NETWORK}
        writes = any(mount.writable for mount in server.mounts)
        sealed = {FILESYSTEM, NETWORK} <= verified and server.network is Network.NONE and not writes
        return Confines(demanded=demanded, verified=verified, sealed=sealed)


def spec_of(server: ServerOptions, profile: SandboxOptions) -> Spec:
    """Everything the server will see: its interpreter, its mounts, its own environment variables.

    Raises:
        SandboxError: there is no such program.
    """
    own = tuple(Mount(source=str(m.path), target=str(m.path), writable=m.writable) for m in server.mounts)
    return Spec(
        argv=server.command,
        env=server.env,
        mounts=(*runtime_mounts(server.command), *own),
        limits=Limits(memory_bytes=profile.memory_mb * MIB, pids=profile.pids),
        network="host" if server.network is Network.HOST else "none",
    )
