"""From a server's settings to a sandbox: what it will see, and what it is told when it could not start."""

import sys
from pathlib import Path

import pytest

from gateway.errors import UpstreamError
from gateway.options import Mount, Network, SandboxOptions, ServerOptions
from gateway.settings import SHIPPED
from gateway.walls import Walls, exposed, spec_of
from sandbox.driver import GUARANTEES, Capabilities
from sandbox.errors import SandboxError

PROFILE = SandboxOptions()


def server(*command: str, network: Network = Network.NONE, mounts: tuple[Mount, ...] = ()) -> ServerOptions:
    return ServerOptions(name="own", command=command, network=network, mounts=mounts)


def test_a_script_that_the_sandbox_would_not_see_is_named_with_the_mount_that_shows_it(tmp_path: Path) -> None:
    script = tmp_path / "tickets.py"
    script.touch()
    with pytest.raises(SandboxError, match=f'mounts = \\["{tmp_path}:ro"\\]'):
        spec_of(server(sys.executable, str(script)), PROFILE)

    spec = spec_of(server(sys.executable, str(script), mounts=(Mount(path=tmp_path),)), PROFILE)
    assert any(mount.target == str(tmp_path) and not mount.writable for mount in spec.mounts)


def test_a_path_of_the_interpreters_own_needs_no_mount() -> None:
    assert spec_of(server(sys.executable, pytest.__file__), PROFILE).network == "none"


def test_a_program_that_downloads_needs_the_network_written_out(tmp_path: Path) -> None:
    program = tmp_path / "npx"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(SandboxError, match="has no network"):
        spec_of(server(str(program), "-y", "a-package"), PROFILE)
    assert spec_of(server(str(program), "-y", "a-package", network=Network.HOST), PROFILE).network == "host"


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

    async def start(self, spec: object) -> object:
        raise AssertionError("started")


async def test_a_mount_that_became_the_state_folder_after_the_start_starts_nothing(tmp_path: Path) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    state.mkdir()
    data.symlink_to(state)
    verified = Capabilities(verified=frozenset(GUARANTEES))
    walls = Walls(driver=Untouched(), capabilities=verified, profiles=SHIPPED, state=state)  # type: ignore[arg-type]
    with pytest.raises(UpstreamError, match="own keys"):
        await walls.launch(server(sys.executable, mounts=(Mount(path=data),)), "standard")


def test_a_server_with_any_mount_of_its_own_is_not_sealed(tmp_path: Path) -> None:
    verified = Capabilities(verified=frozenset(GUARANTEES))
    walls = Walls(driver=Untouched(), capabilities=verified, profiles=SHIPPED, state=tmp_path)  # type: ignore[arg-type]
    assert walls.confines(server(sys.executable)).sealed
    assert not walls.confines(server(sys.executable, mounts=(Mount(path=tmp_path),))).sealed
    assert not walls.confines(server(sys.executable, network=Network.HOST)).sealed
