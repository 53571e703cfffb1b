"""The machine's package sources, shown to an installer for a build's time, paths and all."""

from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.images.build import Recipe
from sandbox.images.sources import machine_sources


def test_settings_files_are_copied_with_the_files_they_name(tmp_path: Path) -> None:
    etc, own, home = (tmp_path / name for name in ("etc", "own", "home"))
    for folder in (etc, own, home):
        folder.mkdir()
    (etc / "ca.pem").write_text("authority")
    (etc / "pip.conf").write_text(f"[global]\ncert = {etc}/ca.pem\nindex-url = https://pypi.example/etc/simple\n")
    (etc / "npmrc").write_text("fund=false\n")
    (own / ".npmrc").write_text(f"cafile={etc}/ca.pem\n//npm.example/:_authToken=secret\n")

    found = machine_sources(home, {"HOME": str(own)}, system=tmp_path)

    assert (home / "xdg/pip/pip.conf").read_text() == (
        "[global]\ncert = /build/given/0-ca.pem\nindex-url = https://pypi.example/etc/simple\n"
    )
    assert (home / "given/0-ca.pem").read_text() == "authority"
    assert (home / ".npmrc").read_text() == "cafile=/build/given/1-ca.pem\n//npm.example/:_authToken=secret\n"
    assert (home / "npmrc").read_text() == "fund=false\n"
    assert found.env == {"XDG_CONFIG_DIRS": "/build/xdg", "npm_config_globalconfig": "/build/npmrc"}
    assert "secret" not in repr(found)


def test_of_the_environment_only_what_fetches_packages_passes(tmp_path: Path) -> None:
    wheels, home = tmp_path / "wheels", tmp_path / "home"
    wheels.mkdir()
    home.mkdir()
    environ = {
        "HOME": str(tmp_path),
        "PIP_FIND_LINKS": str(wheels),
        "HTTPS_PROXY": "http://proxy.example:3128",
        "npm_config_registry": "https://npm.example/",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PYTHONPATH": str(wheels),
    }

    found = machine_sources(home, environ, system=tmp_path)

    assert found.env == {
        "XDG_CONFIG_DIRS": "/build/xdg",
        "PIP_FIND_LINKS": "/given/0-wheels",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "npm_config_registry": "https://npm.example/",
    }
    assert [(mount.source, mount.target, mount.writable) for mount in found.mounts] == [
        (str(wheels), "/given/0-wheels", False)
    ]


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (Recipe(name="One"), "'One' will not do as name"),
        (Recipe(name="one", npm=("left-pad",)), r"package@1\.2\.3"),
        (Recipe(name="one", npm=("left-pad@^1.0.0",)), "left-pad"),
        (Recipe(name="one", npm=("--registry=http://away.example",)), "will not do as npm"),
        (Recipe(name="one", npm=("git+https://away.example/x@1.0.0",)), "will not do as npm"),
        (Recipe(name="one", pypi=("requests>=2",)), r"package==1\.2\.3"),
        (Recipe(name="one", pypi=("-rrequirements.txt==1",)), "will not do as pypi"),
        (Recipe(name="one", pypi=("x @ https://away.example/x.whl",)), "will not do as pypi"),
        (Recipe(name="one", debian=("git,--hook",)), "will not do as debian"),
        (Recipe(name="one", debian=("git",), base="a.example/b@sha256:" + "0" * 64), "Leave out --base or --debian"),
        (Recipe(name="one", base="docker.io/library/debian:12"), "has no digest"),
        (Recipe(name="one", base="debian@sha256:123"), "has no digest"),
    ],
)
def test_what_would_be_something_else_tomorrow_is_refused(recipe: Recipe, why: str) -> None:
    with pytest.raises(SandboxError, match=why):
        recipe.checked()


def test_exact_versions_are_taken() -> None:
    packages = ("@scope/server-files@2026.8.31", "left-pad@1.3.0-beta.1")

    assert Recipe(name="one", npm=packages, pypi=("mcp-server-git==2026.10.19", "uvicorn[standard]==0.54.0")).checked()
