"""Which way imports run, who starts processes, and that every room says what it is and is not."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.__main__ import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
OF_OS = frozenset({"fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen"}) | {
    f"{verb}{ending}" for verb in ("exec", "spawn") for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
}
OF_ANYBODY = frozenset(
    {"create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell", "ProcessPoolExecutor"}
)
"""Names that start a process, as attributes of `os`, or of asyncio, a loop, an executor's module."""
MAY_START = ("sandbox/", "gateway/demo/", "llmcore/hosts/process.py")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield path.relative_to(REPOSITORY).as_posix(), ast.parse(path.read_text("utf-8"))


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")

    ended = subprocess.run(
        [lint, "--no-cache", "--no-logo"], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == 0, ended.stdout


def test_a_broken_contract_would_be_seen(tmp_path: Path) -> None:
    config = (REPOSITORY / "pyproject.toml").read_text().replace('"demo",\n', "", 1)
    (tmp_path / "pyproject.toml").write_text(config)
    lint = Path(sys.executable).with_name("lint-imports")

    ended = subprocess.run(
        [lint, "--no-cache", "--no-logo", "--config", tmp_path / "pyproject.toml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode != 0
    assert "demo" in ended.stdout + ended.stderr


def starts() -> Iterator[str]:
    """Each place that starts a process."""
    for path, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(ast.Name("os"), name) if name in OF_OS:
                    yield f"{path}:{node.lineno}: os.{name}"
                case ast.Attribute(_, name) if name in OF_ANYBODY:
                    yield f"{path}:{node.lineno}: {name}"


def test_processes_are_started_in_the_sandbox_and_the_demo_alone() -> None:
    places = list(starts())

    assert [place for place in places if not place.startswith(MAY_START)] == []
    assert any(place.startswith("sandbox/bubblewrap/") for place in places)  # a start would be seen


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_it_is(package: str) -> None:
    silent = [
        path.relative_to(REPOSITORY).as_posix()
        for path in sorted((REPOSITORY / package).rglob("__init__.py"))
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]

    assert silent == []


def test_every_folder_with_code_is_a_room() -> None:
    rooms = {path.parent for package in PACKAGES for path in (REPOSITORY / package).rglob("__init__.py")}
    folders = {path.parent for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")}

    assert {str(folder.relative_to(REPOSITORY)) for folder in folders - rooms} == set()


def test_every_file_says_what_it_is() -> None:
    assert [path for path, tree in sources() if not ast.get_docstring(tree)] == []
