"""An image as the root of a sandbox: what is bound, what is opened for a mount point, and what is refused."""

from pathlib import Path

import pytest

from sandbox.bubblewrap.rootfs import rootfs
from sandbox.errors import SandboxError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("usr/bin", "etc", "home", "proc", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "etc/passwd").touch()
    (tmp_path / "etc/os-release").touch()
    return tmp_path


def test_top_level_entries_are_bound_read_only_and_links_made_anew(root: Path) -> None:
    assert list(rootfs(root, "/seen", [])) == [
        *("--symlink", "usr/bin", "/bin"),
        *("--ro-bind", "/seen/etc", "/etc"),
        *("--ro-bind", "/seen/home", "/home"),
        *("--ro-bind", "/seen/usr", "/usr"),
    ]


def test_a_folder_is_opened_only_for_a_mount_point_that_it_lacks(root: Path) -> None:
    arguments = list(rootfs(root, "/seen", ["/etc/passwd", "/home/me/repo"]))

    assert arguments[3:6] == ["--ro-bind", "/seen/etc", "/etc"]
    assert arguments[6:10] == ["--perms", "0755", "--dir", "/home"]


def test_an_opened_folder_keeps_what_is_not_covered(root: Path) -> None:
    arguments = list(rootfs(root, "/seen", ["/etc/passwd", "/etc/hosts"]))

    assert "--dir" in arguments
    assert arguments[7:10] == ["--ro-bind", "/seen/etc/os-release", "/etc/os-release"]
    assert "/seen/etc/passwd" not in arguments


@pytest.mark.promise("image-links-not-followed")
@pytest.mark.parametrize("link", ["/oldroot/etc", "/etc", "../../etc"])
def test_a_mount_point_behind_an_images_link_is_refused(root: Path, link: str) -> None:
    (root / "data").symlink_to(link)

    with pytest.raises(SandboxError, match="lies behind /data"):
        list(rootfs(root, "/seen", ["/data/sub"]))


def test_a_mount_point_further_down_behind_a_link_is_refused(root: Path) -> None:
    (root / "usr/away").symlink_to("/etc")

    with pytest.raises(SandboxError, match="lies behind /usr/away"):
        list(rootfs(root, "/seen", ["/usr/away/sub"]))


def test_a_link_exactly_where_something_is_mounted_is_left_out(root: Path) -> None:
    (root / "etc/hosts").symlink_to("/oldroot/etc/hosts")

    arguments = list(rootfs(root, "/seen", ["/etc/hosts"]))

    assert "/oldroot/etc/hosts" not in arguments


def test_an_image_whose_root_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="pratique image build"):
        list(rootfs(tmp_path / "gone", "/seen", []))
