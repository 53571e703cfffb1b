"""From a server's settings to a sandbox: what it will see, and what it is told when it could not start."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UpstreamError
from gateway.launcher import Launcher
from gateway.options import Mount, Network, SandboxOptions, ServerOptions
from gateway.settings import SHIPPED
from gateway.walls import Walls, exposed, spec_of
from sandbox.driver import GUARANTEES, Capabilities, Tried
from sandbox.errors import SandboxError
from sandbox.spec import Mount as Shown

PROFILE = SandboxOptions()


def server(*command: str, network: Network = Network.NONE, mounts: tuple[Mount, ...] = ()) -> ServerOptions:
    return ServerOptions(name="own", command=command, network=network, mounts=mounts)


def test_a_script_that_the_sandbox_would_not_see_is_named_with_the_mount_that_shows_it(tmp_path: Path) -> None:
    script = tmp_path / "tickets.py"
    script.touch()
    with pytest.raises(SandboxError, match=f'mounts = \\["{tmp_path}:ro"\\]'):
        spec_of(server(sys.executable, str(script)), PROFILE, (), None)

    shown = Shown(source=str(tmp_path), target=str(tmp_path))
    assert shown in spec_of(server(sys.executable, str(script)), PROFILE, (shown,), None).mounts


def test_a_path_of_the_interpreters_own_needs_no_mount() -> None:
    assert spec_of(server(sys.executable, pytest.__file__), PROFILE, (), None).network == "none"


def test_a_program_that_downloads_needs_the_network_written_out(tmp_path: Path) -> None:
    program = tmp_path / "npx"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(SandboxError, match="has no network"):
        spec_of(server(str(program), "-y", "a-package"), PROFILE, (), None)
    online = server(str(program), "-y", "a-package", network=Network.HOST)
    assert spec_of(online, PROFILE, (), None).network == "host"


@pytest.mark.promise("own-state-in-no-mount")
@pytest.mark.parametrize("shown", [".", "state", "state/keys", "link"])
def test_a_mount_that_would_show_the_gateways_own_keys_is_refused(tmp_path: Path, shown: str) -> None:
    (tmp_path / "state" / "keys").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert "own keys" in exposed([tmp_path / shown], tmp_path / "state")
    assert exposed([tmp_path / "data"], tmp_path / "state") == ""


class Untouched:
    """A driver that must not be asked."""

    async def start(self, spec: object, outlet: object = None) -> object:
        raise AssertionError("started")


class AsTheyAre:
    async def mounts(self, server: ServerOptions, task: str) -> tuple[()]:
        return ()


async def unrecorded(kind: str, payload: object, *, server: str, task: str = "") -> None: ...


HELD = Capabilities(verified=frozenset(GUARANTEES))
WALLS = Walls(tried=(Tried(name="bubblewrap", driver=Untouched(), capabilities=HELD),), profiles=SHIPPED)  # type: ignore[arg-type]


async def test_a_mount_that_became_the_state_folder_after_the_start_starts_nothing(tmp_path: Path) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    state.mkdir()
    data.symlink_to(state)
    launcher = Launcher(walls=WALLS, workspaces=AsTheyAre(), record=unrecorded, state=state)
    with pytest.raises(UpstreamError, match="own keys"):
        await launcher(server(sys.executable, mounts=(Mount(path=data),)), driver="bubblewrap", task="task_1")


def test_a_server_with_any_mount_of_its_own_is_not_sealed(tmp_path: Path) -> None:
    assert WALLS.confines(server(sys.executable)).sealed
    assert not WALLS.confines(server(sys.executable, mounts=(Mount(path=tmp_path),))).sealed
    assert not WALLS.confines(server(sys.executable, network=Network.HOST)).sealed


def test_a_server_with_a_way_out_is_not_sealed() -> None:
    assert not walls(egress=("api.example.com:443",)).confines(server(sys.executable)).sealed


def walls(*found: Tried, **profile: Any) -> Walls:
    return Walls(tried=found or WALLS.tried, profiles={"standard": replace(PROFILE, **profile)})


def had(name: str, *more: str, lacks: str = "") -> Tried:
    verified = frozenset({*GUARANTEES, *more} - {lacks})
    why_not = {lacks: "as tried"} if lacks else {}
    return Tried(name=name, driver=Untouched(), capabilities=Capabilities(verified=verified, why_not=why_not))  # type: ignore[arg-type]


def test_the_cheapest_that_holds_what_is_promised_is_taken() -> None:
    own, three = server(sys.executable), (had("bubblewrap", lacks="syscalls"), had("runc"), had("gvisor", "kernel"))
    assert walls(*three).cheapest(own) == "runc"
    assert walls(*three, guarantees=frozenset({"filesystem"})).cheapest(own) == "bubblewrap"
    assert walls(*three, guarantees=frozenset({"kernel"})).cheapest(own) == "gvisor"


@pytest.mark.promise("no-sandbox-no-run")
def test_where_none_holds_it_everything_that_is_missing_is_listed() -> None:
    own, two = server(sys.executable), (had("bubblewrap", lacks="syscalls"), had("runc", lacks="resources"))
    assert walls(*two).cheapest(own) == ""
    with pytest.raises(SandboxError, match="bubblewrap: syscalls: as tried; runc: resources: as tried"):
        walls(*two).driver(own, "bubblewrap")


def test_a_profile_that_names_a_driver_gets_that_one_or_none() -> None:
    own, two = server(sys.executable), (had("bubblewrap"), had("vm", lacks="network"))
    assert [offer.driver for offer in walls(*two, driver="vm").confines(own).offers] == ["vm"]
    assert walls(*two, driver="vm").cheapest(own) == ""
    with pytest.raises(SandboxError, match="vm: network"):
        walls(*two, driver="vm").driver(own, "bubblewrap")


def test_the_network_of_the_host_gives_one_promise_up_and_no_policy_gets_it_back() -> None:
    confines = WALLS.confines(server(sys.executable, network=Network.HOST))
    assert "network" not in confines.demanded
    assert all("network" not in offer.verified for offer in confines.offers)
