"""A root file system as a tar: the same content is the same digest, and a stranger's tar stays in its folder."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.errors import SandboxError
from sandbox.images.archive import pack, settle, unpack

NAMES = st.text("abcé.-", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
TREES = st.recursive(
    st.binary(max_size=30) | st.tuples(st.just("->"), NAMES),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def test_the_same_content_is_the_same_digest_whenever_and_by_whomever_it_was_made(tmp_path: Path) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    for root, names in ((early, ("one", "two")), (late, ("two", "one"))):
        root.mkdir()
        for name in names:
            (root / name).write_text(name)
        settle(root)
    os.utime(late, (1, 1))

    assert pack(early, tmp_path / "early.tar") == pack(late, tmp_path / "late.tar")
    assert (tmp_path / "early.tar").read_bytes() == (tmp_path / "late.tar").read_bytes()


@settings(max_examples=25, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, max_size=4))
def test_what_is_packed_and_unpacked_packs_the_same(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    folder = tmp_path_factory.mktemp("tree")
    _make(folder / "root", tree)
    settle(folder / "root")

    digest = pack(folder / "root", folder / "first.tar")
    unpack(folder / "first.tar", folder / "again")
    settle(folder / "again")

    assert pack(folder / "again") == digest


@pytest.mark.parametrize("edit", ["content", "mode", "name", "link", "time", "more"])
def test_any_edit_is_another_digest(tmp_path: Path, edit: str) -> None:
    root = tmp_path / "root"
    _make(root, {"file": b"content", "link": ("->", "file")})
    settle(root)
    before = pack(root)

    match edit:
        case "content":
            (root / "file").write_bytes(b"CONTENT")
        case "mode":
            (root / "file").chmod(0o755)
        case "name":
            (root / "file").rename(root / "elif")
        case "link":
            (root / "link").unlink()
            (root / "link").symlink_to("elsewhere")
        case "time":
            os.utime(root / "file")
            assert pack(root) != before
            return
        case "more":
            (root / "more").mkdir()
    settle(root)

    assert pack(root) != before


@pytest.mark.promise("image-archive-stays")
@pytest.mark.parametrize(
    "entries",
    [
        [("../out", "file", "")],
        [("a/../../out", "file", "")],
        [("away", "link", ".."), ("away/out", "file", "")],
        [("away", "link", "{outside}"), ("away/out", "file", "")],
        [("away", "link", "{outside}"), ("away", "folder", "")],
        [("name", "second", "../secret")],
        [("away", "link", "{outside}"), ("name", "second", "away/secret")],
        [("away", "link", "{outside}/secret"), ("name", "second", "away")],
    ],
)
def test_nothing_of_a_strangers_tar_is_written_or_linked_outside(
    tmp_path: Path, entries: list[tuple[str, str, str]]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = outside / "root"

    with pytest.raises(SandboxError):
        unpack(_tar(tmp_path, [(name, kind, to.format(outside=outside)) for name, kind, to in entries]), root)

    assert sorted(os.listdir(outside)) == ["root", "secret"]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")

    unpack(_tar(tmp_path, [("etc", "link", str(secret)), ("etc", "file", "")]), tmp_path / "root")

    assert secret.read_text() == "secret"
    assert (tmp_path / "root/etc").read_text() == "content"


@pytest.mark.promise("image-no-privilege")
def test_devices_and_pipes_are_left_out_and_no_setuid_bit_survives(tmp_path: Path) -> None:
    root = tmp_path / "root"
    unpack(_tar(tmp_path, [("disk", "device", ""), ("pipe", "pipe", ""), ("su", "setuid", "")]), root)

    assert os.listdir(root) == ["su"]
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755


def test_what_an_installer_left_there_is_settled_too(tmp_path: Path) -> None:
    _make(tmp_path / "root", {"su": b""})
    (tmp_path / "root/su").chmod(0o6755)
    os.mkfifo(tmp_path / "root/pipe")

    settle(tmp_path / "root")

    assert os.listdir(tmp_path / "root") == ["su"]
    assert stat.S_IMODE((tmp_path / "root/su").stat().st_mode) == 0o755


def test_a_second_name_of_a_file_stays_one_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    unpack(_tar(tmp_path, [("git", "file", ""), ("git-add", "second", "git")]), root)
    settle(root)
    pack(root, tmp_path / "again.tar")

    assert (root / "git").samefile(root / "git-add")
    with tarfile.open(tmp_path / "again.tar") as tar:
        assert tar.getmember("git-add").islnk()


def test_a_broken_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_bytes(b"\x01" * 2000)

    with pytest.raises(SandboxError, match=r"broken\.tar is not a whole tar"):
        unpack(tmp_path / "broken.tar", tmp_path / "root")


def _make(path: Path, tree: object) -> None:
    match tree:
        case dict():
            path.mkdir(parents=True)
            for name, inner in tree.items():
                _make(path / name, inner)
        case bytes():
            path.write_bytes(tree)
        case (_, target):
            path.symlink_to(target)


def _tar(folder: Path, entries: list[tuple[str, str, str]]) -> Path:
    with tarfile.open(folder / "given.tar", "w") as tar:
        for name, kind, target in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.linkname = 0o755, target
            content = None
            match kind:
                case "link":
                    info.type = tarfile.SYMTYPE
                case "second":
                    info.type = tarfile.LNKTYPE
                case "folder":
                    info.type = tarfile.DIRTYPE
                case "device":
                    info.type, info.devmajor, info.devminor = tarfile.BLKTYPE, 8, 0
                case "pipe":
                    info.type = tarfile.FIFOTYPE
                case "setuid":
                    info.mode = 0o6755
                case "file":
                    info.size, content = 7, io.BytesIO(b"content")
            tar.addfile(info, content)
    return folder / "given.tar"
