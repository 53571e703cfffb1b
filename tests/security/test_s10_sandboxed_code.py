"""S10: a server's code is hostile. What its tool tries from inside comes to nothing; with a control off, not.

The whole gateway stands on an island (`escape/island.py`): metadata, a resolver and a public address are ours there.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from security.escape.baits import Laid, laid
from security.escape.island import Island, island
from security.escape.judge import Outcome, outcome_of
from security.escape.probes import main as _  # noqa: F401  # the probes enter the table
from security.escape.probes.table import PROBES
from support.scene import SERVERS, Agent, grant, hang_up, real_walls

from gateway.bootstrap import Running, running
from gateway.options import Access, Mount, Network, Options, SandboxOptions, ServerOptions
from gateway.settings import SHIPPED
from sandbox.driver import GUARANTEES
from sandbox.spec import Limits

TIGHT = SandboxOptions(guarantees=frozenset(GUARANTEES), memory_mb=128, pids=32)
PACK = """
[tool.attack]
effect = "read"
arguments = { names = { role = "control" } }
"""
FILES = [
    "file-by-climbing",
    "file-through-a-link-swapped-in-the-meantime",
    "mount-written-though-read-only",
    "environments-of-processes",
    "root-of-another-process",
    "proc-sys-core-pattern",
    "device-node-in-a-mount",
    "setuid-file-in-a-mount",
    "descriptors-inherited",
]
NETWORK = ["tcp-to-loopback", "tcp-to-metadata", "tcp-to-a-public-address", "dns-over-udp", "gateway-port"]
GATEWAY = ["docker-socket", "control-socket", "agent-socket", "audit-database-read", "signing-key", "gateway-signalled"]
KERNEL = ["io-uring", "bpf", "namespace-user", "mount-of-memory", "sibling-traced", "module", "typing-into-a-terminal"]
LIMITS = ["processes", "tmp-filled", "zip-bomb", "memory-of-one"]


@pytest.fixture(scope="module")
def land() -> Iterator[Island]:
    with island() as found:
        yield found


@pytest.mark.promise("sandboxed-code-lands-nowhere")
def test_hostile_code_lands_nowhere_and_its_neighbour_does_not_notice(land: Island, tmp_path: Path) -> None:
    async def attacked() -> None:
        with lies() as bait:
            rogue, neighbour = hostile(tmp_path, bait), kind()
            async with playing(tmp_path, rogue, neighbour) as gateway:
                agents = await two(gateway)
                attack = asyncio.create_task(attacks(agents[0], bait, FILES + NETWORK + GATEWAY + KERNEL + LIMITS))
                answered = 0
                while not attack.done():
                    assert not (await agents[1].call("kind__plain")).code
                    answered += 1
                got = await attack
            assert {name: one.said for name, one in got.items() if one.got_through("bubblewrap")} == {}
            assert not any(one.broken or one.late for one in got.values())
            assert answered > 20
            assert bait.landed() == {}
            assert bait.residue() == []

    land.run(attacked)


def test_with_the_network_shared_it_reaches_metadata_and_a_resolver(land: Island, tmp_path: Path) -> None:
    async def attacked() -> None:
        with lies() as bait:
            async with playing(tmp_path, replace(hostile(tmp_path, bait), network=Network.HOST), kind()) as gateway:
                agents = await two(gateway)
                got = await attacks(agents[0], bait, NETWORK)
            assert {name for name, one in got.items() if one.got_through("bubblewrap")} == set(NETWORK)

    land.run(attacked)


def test_with_the_whole_folder_mounted_it_climbs_out_and_reads_the_gateways_key(land: Island, tmp_path: Path) -> None:
    reached = {"file-by-climbing", "file-through-a-link-swapped-in-the-meantime", "signing-key", "audit-database-read"}

    async def attacked() -> None:
        with lies() as bait:
            server = hostile(tmp_path, bait)
            shown = Mount(path=Path(bait.bait.open), access=Access.DIRECT)
            kept = tuple(mount for mount in server.mounts if str(mount.path) != bait.bait.given)
            async with playing(tmp_path, replace(server, mounts=(*kept, shown)), kind()) as gateway:
                agents = await two(gateway)
                got = await attacks(agents[0], bait, FILES + GATEWAY)
            assert reached <= {name for name, one in got.items() if one.got_through("bubblewrap")}

    land.run(attacked)


# ---- the pieces --------------------------------------------------------------------------------------------------


def lies() -> Any:
    return laid(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"), "bubblewrap")


def hostile(folder: Path, bait: Laid) -> ServerOptions:
    """It may write to the box, and read what was given."""
    pack = folder / "rogue.toml"
    pack.write_text(PACK)
    told = replace(bait, bait=replace(bait.bait, limits={**bait.bait.limits, "tmp": Limits().tmp_bytes}))
    script = f"{bait.program}/security/escape/probes/serving.py"
    return ServerOptions(
        name="rogue",
        command=(sys.executable, "-P", "-S", "-B", script, bait.program, told.as_argument()),
        mounts=(
            Mount(path=Path(bait.program)),
            Mount(path=Path(bait.bait.given)),
            Mount(path=Path(bait.bait.box), access=Access.DIRECT),
        ),
        sandbox="tight",
        pack=str(pack),
    )


def kind() -> ServerOptions:
    command = (sys.executable, "-P", "-S", str(SERVERS / "hostile.py"))
    return ServerOptions(name="kind", command=command, mounts=(Mount(path=SERVERS),))


@asynccontextmanager
async def playing(folder: Path, *servers: ServerOptions) -> AsyncIterator[Running]:
    """A gateway with a profile of its own."""
    profiles = {**SHIPPED, "tight": TIGHT}
    by_name = {server.name: server for server in servers}
    chosen = Options(state=folder / "state", port=0, sandboxes=profiles, servers=by_name)
    async with running(chosen, replace(await real_walls(), profiles=profiles)) as gateway:
        try:
            yield gateway
        finally:
            hang_up()


async def two(gateway: Running) -> tuple[Agent, Agent]:
    token = (await grant(gateway, "rogue.*", "kind.*")).token
    return Agent(gateway.url, token), Agent(gateway.url, token)


async def attacks(agent: Agent, bait: Laid, names: list[str]) -> dict[str, Outcome]:
    """What the tool says came of it, and what is seen of it from outside."""
    said = await agent.call("rogue__attack", names=",".join(names))
    assert not said.code, said.body
    ended, landed = said.result["ended"], bait.landed()
    return {name: outcome_of(PROBES[name], ended[name], bait.secret, landed.get(name, "")) for name in names}
