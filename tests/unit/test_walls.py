"""From a server's settings to a sandbox: what it will see, and what it is told when it could not start."""

import sys
from pathlib import Path

import pytest

from gateway.options import Mount, Network, SandboxOptions, ServerOptions
from gateway.walls import spec_of
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
