"""The wheel: five packages with their data and one command; and a start-up that refuses strangers among the five."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.__main__ import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
SOME = {
    "policies/rego/kernel.rego",
    "policies/packs/bank.toml",
    "sandbox/seccomp/rules.toml",
    "sandbox/seccomp/syscalls.json",
    "gateway/edges/console/templates/approval.html",
    "gateway/edges/console/static/console.css",
    "gateway/edges/console/static/console.js",
    "gateway/stores/migrations/versions/v0001_corridor.py",
}
"""One of each kind: a pattern that catches nothing would pass unseen otherwise."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that what an earlier build left behind is not in it."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    built = tmp_path_factory.mktemp("built")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", built, source], check=True, capture_output=True, text=True, timeout=60)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh environment would hold of it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def run(*arguments: str, folder: Path, strangers: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Python with the wheel's contents on its path, behind those of `strangers`."""
    path = os.pathsep.join(str(one) for one in (strangers, folder) if one)
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env={"PYTHONPATH": path, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def test_the_top_level_is_exactly_the_five_packages(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names(wheel)}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert files - names(wheel) == set()
    assert files >= SOME


def test_the_command_is_pratique(installed: Path) -> None:
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")

    assert "pratique = gateway.__main__:main" in entry_points.read_text()


def test_the_licence_travels_with_it(installed: Path) -> None:
    (licence,) = installed.glob("*.dist-info/licenses/LICENSE")

    assert "Apache License" in licence.read_text()


def test_a_built_wheel_finds_its_own_data(installed: Path) -> None:
    program = """
import gateway, gateway.edges.console.pages
from gateway.stores.database import open_database
from pathlib import Path
from policies.bundle import load
from policies.packs import bundled, load_pack
from sandbox.seccomp import load_rules
load(), load_rules(), [load_pack(name) for name in bundled()]
open_database(Path("state")).close()
print(gateway.__file__)
"""
    ended = run("-c", program, folder=installed)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(str(installed))


def test_a_built_wheel_starts(installed: Path) -> None:
    ended = run("-m", "gateway", "--help", folder=installed)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "gateway"])
def test_a_stranger_among_the_five_stops_the_start(package: str, installed: Path, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('the stranger was run')\n")

    ended = run("-m", "gateway", "--help", folder=installed, strangers=tmp_path)

    assert ended.returncode == 1
    assert f"{package} would be imported from elsewhere than the rest" in ended.stderr


def test_strangers_are_all_named(installed: Path, tmp_path: Path) -> None:
    for package in ("policies", "sandbox"):
        (tmp_path / f"{package}.py").write_text("raise SystemExit('the stranger was run')\n")

    ended = run("-m", "gateway", "--help", folder=installed, strangers=tmp_path)

    assert ended.returncode == 1
    assert "policies, sandbox would be imported" in ended.stderr
