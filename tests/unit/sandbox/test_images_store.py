"""Images by name and digest: found only while they are what they were built as."""

import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.images.archive import settle
from sandbox.images.store import Entry, Store, find_image


def test_an_image_is_found_by_the_reference_that_its_build_gave(tmp_path: Path) -> None:
    entry = _kept(tmp_path, "one", "content")

    image = find_image(tmp_path, entry.reference)

    assert image.digest == entry.digest
    assert (Path(image.root) / "file").read_text() == "content"
    assert Path(image.archive).stat().st_size == entry.size_bytes
    assert Store(folder=tmp_path / "images").entries() == [entry]


@pytest.mark.promise("image-digest")
@pytest.mark.parametrize("part", ["archive", "unpacked root"])
def test_an_image_that_was_changed_is_refused(tmp_path: Path, part: str) -> None:
    entry = _kept(tmp_path, "one", part)
    place = tmp_path / "images" / entry.digest.removeprefix("sha256:")
    if part == "archive":
        content = bytearray((place / "image.tar").read_bytes())
        content[600] ^= 1
        (place / "image.tar").write_bytes(content)
    else:
        (place / "root/file").write_text("changed")

    with pytest.raises(SandboxError, match=f"one: its {part} is sha256"):
        find_image(tmp_path, entry.reference)


def test_an_image_that_lost_a_part_is_refused(tmp_path: Path) -> None:
    entry = _kept(tmp_path, "one", "lost")
    (tmp_path / "images" / entry.digest.removeprefix("sha256:") / "image.tar").unlink()

    with pytest.raises(SandboxError, match=r"one is not whole.*pratique image build one"):
        find_image(tmp_path, entry.reference)

    assert _kept(tmp_path, "one", "lost").digest == entry.digest
    assert find_image(tmp_path, entry.reference).digest == entry.digest


def test_a_name_or_a_digest_that_is_not_here_says_what_is(tmp_path: Path) -> None:
    entry = _kept(tmp_path, "one", "content")

    with pytest.raises(SandboxError, match=r"there is no image two.*pratique image build two"):
        find_image(tmp_path, f"two@{entry.digest}")
    with pytest.raises(SandboxError, match=f"one has the digests {entry.digest}, not sha256:0000"):
        find_image(tmp_path, f"one@sha256:{'0' * 64}")
    with pytest.raises(SandboxError, match="is not NAME@sha256"):
        find_image(tmp_path, "one:latest")


def test_a_name_keeps_the_digests_that_settings_still_pin(tmp_path: Path) -> None:
    old, new = _kept(tmp_path, "one", "old"), _kept(tmp_path, "one", "new")

    assert find_image(tmp_path, old.reference).digest != find_image(tmp_path, new.reference).digest
    assert [entry.digest for entry in Store(folder=tmp_path / "images").entries()] == [old.digest, new.digest]


def test_removing_a_name_deletes_what_no_other_name_stands_for(tmp_path: Path) -> None:
    shared, own = _kept(tmp_path, "one", "shared"), _kept(tmp_path, "one", "own")
    also = _kept(tmp_path, "two", "shared")
    store = Store(folder=tmp_path / "images")

    assert store.remove("one") == [own.digest]
    assert store.entries() == [also]
    assert find_image(tmp_path, also.reference).digest == shared.digest
    assert sorted(os.listdir(store.folder)) == sorted(["lock", "names.json", shared.digest.removeprefix("sha256:")])
    with pytest.raises(SandboxError, match="there is no image one"):
        store.remove("one")


def test_two_builds_at_once_are_one_too_many(tmp_path: Path) -> None:
    store = Store(folder=tmp_path)

    with store.draft(), pytest.raises(SandboxError, match="another build is running"), store.draft():
        pass


def test_a_draft_is_gone_whatever_happened_and_so_is_that_of_a_killed_build(tmp_path: Path) -> None:
    (tmp_path / ".new-killed").mkdir()
    store = Store(folder=tmp_path)

    with pytest.raises(ZeroDivisionError), store.draft() as draft:
        (draft / "half").write_text(str(1 // 0))

    assert os.listdir(tmp_path) == ["lock"]


def _kept(state: Path, name: str, content: str) -> Entry:
    store = Store(folder=state / "images")
    with store.draft() as draft:
        root = draft / "root"
        root.mkdir()
        (root / "file").write_text(content)
        settle(root)
        return store.add(name, root, base="a test's", npm=["p@1.0.0"], pypi=[])
