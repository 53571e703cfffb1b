"""Which sandbox a server may run in, and what it will see there: options in, a `Spec` out."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.options import Network, SandboxOptions, ServerOptions
from gateway.stores.memory import Confines
from policies.case import Offer
from sandbox.driver import FILESYSTEM, NETWORK, Driver, Tried
from sandbox.drivers import FINDERS, tried
from sandbox.errors import SandboxError
from sandbox.mounts import SYSTEM
from sandbox.runtime import runtime_mounts
from sandbox.spec import MIB, Image, Limits, Mount, Spec

_CLOSED = frozenset({FILESYSTEM, NETWORK})
_DOWNLOADERS = frozenset({"npx", "uvx", "pipx"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """The drivers as they were tried on this machine, the cheapest first."""

    tried: tuple[Tried, ...]
    profiles: Mapping[str, SandboxOptions]

    def confines(self, server: ServerOptions) -> Confines:
        """What is promised of this server's walls, and who was found to keep it."""
        profile = self.profiles[server.sandbox]
        demanded, given_up = profile.guarantees, frozenset[str]()
        if server.network is Network.HOST:  # written out by the operator: one promise less
            demanded, given_up = demanded - {NETWORK}, frozenset({NETWORK})
        offers = tuple(
            Offer(one.name, one.capabilities.verified - given_up)
            for one in self.tried
            if one.driver is not None and profile.driver in (None, one.name)
        )
        is_closed = server.network is Network.NONE and not server.mounts and not profile.egress
        return Confines(
            demanded=demanded,
            offers=offers,
            image=(server.image or "").rpartition("@")[2],
            sealed=is_closed and all(offer.verified >= _CLOSED for offer in offers if demanded <= offer.verified),
        )

    def cheapest(self, server: ServerOptions) -> str:
        """The driver that its calls get unless a policy demands more; empty where none holds what is promised."""
        confines = self.confines(server)
        return next((offer.driver for offer in confines.offers if confines.demanded <= offer.verified), "")

    def driver(self, server: ServerOptions, name: str) -> Driver:
        """The driver of that name, if it may be this server's.

        Raises:
            SandboxError: it is not, and why: what each driver that its profile allows was found to lack.
        """
        confines = self.confines(server)
        for one in self.tried:
            offer = next((offer for offer in confines.offers if offer.driver == one.name), None)
            if one.name == name and one.driver is not None and offer and confines.demanded <= offer.verified:
                return one.driver
        lacking = "; ".join(why for one in self.tried for why in self._lacks(server, one, confines.demanded))
        what = f"'{server.sandbox}' cannot be had here: {lacking}"
        raise SandboxError("sandbox", what, "`pratique doctor` says more.")

    def _lacks(self, server: ServerOptions, one: Tried, demanded: frozenset[str]) -> Iterable[str]:
        if self.profiles[server.sandbox].driver in (None, one.name):
            for guarantee in sorted(demanded - one.capabilities.verified):
                yield f"{one.name}: {guarantee}: {one.capabilities.why_not.get(guarantee, 'not enforced')}"


async def try_walls(
    servers: Collection[ServerOptions], profiles: Mapping[str, SandboxOptions], *, every: bool
) -> Walls:
    """Try, on this machine, the drivers that these servers need, the cheapest first; a dearer one where it must be.

    Args:
        every: whether the policy may ask for more than the profiles promise.
    """
    named = {profiles[server.sandbox].driver for server in servers} - {None}
    walls = Walls(tried=await tried(FINDERS if every else filter(None, named)), profiles=profiles)
    for name in FINDERS:
        if all(walls.cheapest(server) or profiles[server.sandbox].driver for server in servers):
            break
        if name not in {one.name for one in walls.tried}:
            found = (*walls.tried, *await tried((name,)))
            walls = replace(walls, tried=tuple(sorted(found, key=lambda one: list(FINDERS).index(one.name))))
    return walls


def spec_of(server: ServerOptions, profile: SandboxOptions, mounts: tuple[Mount, ...], image: Image | None) -> Spec:
    """Everything the server will see: its interpreter, its mounts, its own environment variables.

    Args:
        mounts: its own ones, at their places.
        image: instead of the host's programs.

    Raises:
        SandboxError: there is no such program, or what it names cannot be there.
    """
    if image is None:
        mounts = (*runtime_mounts(server.command), *mounts)
        _check_program(server, mounts)
    return Spec(
        argv=server.command,
        env=server.env,
        mounts=mounts,
        image=image,
        limits=Limits(memory_bytes=profile.memory_mb * MIB, pids=profile.pids),
        network="host" if server.network is Network.HOST else "none",
    )


def _check_program(server: ServerOptions, mounts: tuple[Mount, ...]) -> None:
    """Of the host's programs: name what could not work inside, before it fails there."""
    if server.network is Network.NONE and Path(server.command[0]).name in _DOWNLOADERS:
        raise SandboxError(
            "program",
            f"{server.command[0]} downloads what it starts, and this server has no network",
            "Install the package and name its program, or put it into an image (`pratique image build`).",
        )
    for word in server.command[1:]:
        if word.startswith("/") and Path(word).is_file() and not _is_seen(word, mounts):
            folder = Path(word).parent
            raise SandboxError("mount", f"{word} is not in the sandbox", f'Add mounts = ["{folder}:ro"].')


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
