"""What a program needs to run is found, and nothing that it does not need."""

import sys
from pathlib import Path

import pytest

from sandbox import Mount, SandboxError, runtime_mounts


def program(path: Path, text: str = "\x7fELF") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an interpreter, an environment on it, and a secret."""
    monkeypatch.setenv("HOME", str(tmp_path))
    program(tmp_path / "pythons/3.11/bin/python3.11")
    (tmp_path / "pythons/3.11/lib/python3.11").mkdir(parents=True)
    (tmp_path / "pythons/3.11/lib/python3.11/os.py").touch()
    (tmp_path / "team/.venv/bin").mkdir(parents=True)
    (tmp_path / "team/.venv/bin/python").symlink_to(tmp_path / "pythons/3.11/bin/python3.11")
    (tmp_path / "team/.venv/pyvenv.cfg").write_text(f"home = {tmp_path}/pythons/3.11/bin\n")
    (tmp_path / "secret").touch()
    return tmp_path


def targets(argv: tuple[str, ...]) -> list[str]:
    mounts = runtime_mounts(argv)
    assert not any(mount.writable for mount in mounts)
    return [mount.target for mount in mounts]


def test_an_environment_and_the_python_it_stands_on(home: Path) -> None:
    assert targets((f"{home}/team/.venv/bin/python", "-m", "bank")) == [f"{home}/pythons/3.11", f"{home}/team/.venv"]


def test_a_script_brings_its_interpreter(home: Path) -> None:
    script = program(home / "team/.venv/bin/bank", f"#!{home}/team/.venv/bin/python\n")
    assert targets((script,)) == [f"{home}/pythons/3.11", f"{home}/team/.venv"]


def test_a_folder_that_moved_is_found_where_it_was_named(home: Path) -> None:
    (home / "pythons/current").symlink_to(home / "pythons/3.11")
    mounts = runtime_mounts((f"{home}/pythons/current/bin/python3.11",))
    assert mounts == (Mount(source=f"{home}/pythons/3.11", target=f"{home}/pythons/current"),)


def test_a_node_server_is_its_node_and_its_modules(home: Path) -> None:
    node = program(home / ".nvm/v20/bin/node")
    (home / ".nvm/v20/lib/node_modules").mkdir(parents=True)
    server = program(home / "project/node_modules/everything/index.js")
    assert targets((node, server)) == [f"{home}/.nvm/v20", f"{home}/project/node_modules"]


def test_a_linked_node_script_brings_the_modules_that_it_lies_in(home: Path) -> None:
    server = program(home / "project/node_modules/everything/index.js", "#!/bin/sh\n")
    (home / "project/node_modules/.bin").mkdir()
    (home / "project/node_modules/.bin/everything").symlink_to("../everything/index.js")
    assert server
    assert targets((f"{home}/project/node_modules/.bin/everything",)) == [f"{home}/project/node_modules"]


def test_a_program_in_a_home_brings_itself_and_not_the_home(home: Path) -> None:
    (home / ".local/lib/python3.11").mkdir(parents=True)
    (home / ".local/lib/python3.11/os.py").touch()
    script = program(home / ".local/bin/thing", "#!/bin/sh\n")
    own = program(home / "bin/other")
    assert targets((script,)) == [script]
    assert targets((own,)) == [own]


def test_a_program_of_the_system_needs_nothing() -> None:
    assert runtime_mounts(("sh",)) == ()


def test_a_package_installed_in_place_comes_along() -> None:
    assert str(Path(str(sys.modules["sandbox"].__file__)).parent) in targets((sys.executable, "-m", "sandbox.inside"))


def test_a_script_that_interprets_itself_is_an_error(home: Path) -> None:
    loop = program(home / "loop", f"#!{home}/loop\n")
    with pytest.raises(SandboxError, match="in a circle"):
        runtime_mounts((loop,))


def test_a_shim_is_an_error_that_names_the_mend(home: Path) -> None:
    with pytest.raises(SandboxError, match="pyenv which"):
        runtime_mounts((program(home / ".pyenv/shims/python3", "#!/usr/bin/env bash\n"),))


@pytest.mark.parametrize("argv", [(), ("no-such-program",), ("/no/such/program",)])
def test_no_program_is_an_error(argv: tuple[str, ...]) -> None:
    with pytest.raises(SandboxError, match="was not found"):
        runtime_mounts(argv)
