"""What a root loses and gains before it is an image."""

import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.images.tidy import FOLDERS, VARYING, tidy, tidy_debian


def test_whatever_varies_is_gone_and_every_mount_point_is_there(tmp_path: Path) -> None:
    for pattern in VARYING:
        path = tmp_path / pattern.replace("*", "trace")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "var/cache/deep").mkdir()
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/stale.cpython-311.pyc").touch()

    tidy(tmp_path)

    left = [path for path in tmp_path.rglob("*") if "trace" in path.name or path.suffix == ".pyc"]
    assert left == []
    assert all((tmp_path / folder).is_dir() for folder in FOLDERS)
    assert not (tmp_path / "etc/machine-id").exists()
    assert "nobody" in (tmp_path / "etc/passwd").read_text()


def test_what_names_the_builders_machine_is_made_anew_and_users_are_kept(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("node:x:1000:1000::/home/node:/bin/sh\n")
    (tmp_path / "etc/hosts").write_text("10.1.2.3 builder.example\n")
    (tmp_path / "etc/resolv.conf").symlink_to("../run/resolv.conf")

    tidy(tmp_path)

    assert (tmp_path / "etc/passwd").read_text().startswith("node:")
    assert "builder" not in (tmp_path / "etc/hosts").read_text()
    assert not (tmp_path / "etc/resolv.conf").is_symlink()


@pytest.mark.promise("image-archive-stays")
@pytest.mark.parametrize("folder", ["var", "etc", "run", "opt"])
def test_nothing_behind_a_roots_link_is_touched(tmp_path: Path, folder: str) -> None:
    outside = tmp_path / "outside"
    (outside / "log").mkdir(parents=True)
    (outside / "log/kept").touch()
    (outside / "machine-id").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / folder).symlink_to(outside)

    with pytest.raises(SandboxError, match=f"/{folder} is expected to be a folder"):
        tidy(root)

    assert sorted(os.listdir(outside)) == ["log", "machine-id"]
    assert os.listdir(outside / "log") == ["kept"]


def test_a_debian_nobody_configured_gets_its_bundle_of_certificates(tmp_path: Path) -> None:
    shipped = tmp_path / "usr/share/ca-certificates/mozilla"
    shipped.mkdir(parents=True)
    for name in ("b", "a"):
        (shipped / f"{name}.crt").write_text(f"{name}\n")
    (tmp_path / "usr/share/man/man1").mkdir(parents=True)

    tidy_debian(tmp_path)

    assert (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_text() == "a\nb\n"
    assert not (tmp_path / "usr/share/man").exists()


def test_a_python_elsewhere_is_found_where_the_forwarder_looks(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/python3").touch()

    tidy(tmp_path)

    assert os.readlink(tmp_path / "usr/bin/python3") == "/usr/local/bin/python3"
