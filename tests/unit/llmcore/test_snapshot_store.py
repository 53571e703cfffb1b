"""Snapshots on disk: each whole, each its owner's, none beyond its folder."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.errors import SnapshotError
from llmcore.snapshot_store import SnapshotStore

KEY = b"k" * 32


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(folder=tmp_path / "snapshots", key=KEY)


def test_what_was_saved_is_loaded_after_a_restart(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"first")
    store.save("ann", "act_1", b"second")
    store.save("ann", "act_2", b"other")

    again = SnapshotStore(folder=store.folder, key=KEY)

    assert again.load("ann", "act_1") == b"second"
    assert again.load("ann", "act_2") == b"other"


@pytest.mark.promise("llm.snapshot-sealed")
def test_an_owner_sees_its_own_alone(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"hers")
    store.save("bob", "act_2", b"his")

    assert [kept.id for kept in store.list("ann")] == ["act_1"]
    assert store.list("carl") == []
    assert not store.delete("bob", "act_1")
    with pytest.raises(SnapshotError, match="there is no snapshot act_1"):
        store.load("bob", "act_1")


@pytest.mark.promise("llm.snapshot-sealed")
def test_a_file_put_into_another_owners_folder_is_refused(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"hers")
    store.save("bob", "act_2", b"his")
    hers, his = (next(store.folder.glob(f"*/{id}.snapshot")) for id in ("act_1", "act_2"))
    his.write_bytes(hers.read_bytes())
    hers.with_name("act_3.snapshot").write_bytes(hers.read_bytes())

    with pytest.raises(SnapshotError, match="belongs to another owner"):
        store.load("bob", "act_2")
    with pytest.raises(SnapshotError, match="under another name"):
        store.load("ann", "act_3")


def test_everyones_snapshots_are_listed_with_their_owners(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"hers")
    store.save("bób", "act_2", b"his")
    next(store.folder.glob("*/act_1.snapshot")).with_name("act_0.snapshot").write_bytes(b"no snapshot")

    assert sorted((owner, kept.id) for owner, kept in store.everyones()) == [("ann", "act_1"), ("bób", "act_2")]


def test_the_latest_is_listed_first(store: SnapshotStore) -> None:
    for place, id in enumerate(("act_b", "act_a", "act_c")):
        store.save("ann", id, b"body")
        os.utime(next(store.folder.glob(f"*/{id}.snapshot")), (place, place))

    assert [(kept.id, kept.saved) for kept in store.list("ann")] == [("act_c", 2.0), ("act_a", 1.0), ("act_b", 0.0)]


def test_a_deleted_snapshot_is_gone(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"body")

    assert store.delete("ann", "act_1")
    assert not store.delete("ann", "act_1")
    assert store.list("ann") == []


def test_nobody_else_on_the_machine_can_read_them(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"body")

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (store.folder, *store.folder.rglob("*"))}

    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


@given(st.text(max_size=30).filter(lambda id: not id.isascii() or not id.replace("_", "").replace("-", "").isalnum()))
def test_an_id_that_is_no_plain_name_is_refused(tmp_path_factory: pytest.TempPathFactory, id: str) -> None:
    store = SnapshotStore(folder=tmp_path_factory.mktemp("store") / "snapshots", key=KEY)

    for use in (lambda: store.save("ann", id, b""), lambda: store.load("ann", id), lambda: store.delete("ann", id)):
        with pytest.raises(SnapshotError, match="a snapshot's id"):
            use()
    assert list(store.folder.iterdir()) == []


def test_an_owner_with_enough_of_them_is_refused_more(store: SnapshotStore) -> None:
    small = SnapshotStore(folder=store.folder, key=KEY, most_per_owner=2)
    small.save("ann", "act_1", b"1")
    small.save("ann", "act_2", b"2")

    with pytest.raises(SnapshotError, match="2 snapshots are kept for you already"):
        small.save("ann", "act_3", b"3")
    small.save("ann", "act_2", b"again")
    small.save("bob", "act_3", b"3")
    assert small.load("ann", "act_2") == b"again"


def test_a_full_store_keeps_what_it_has(store: SnapshotStore) -> None:
    small = SnapshotStore(folder=store.folder, key=KEY, most_bytes=1_000)
    small.save("ann", "act_1", b"x" * 600)

    with pytest.raises(SnapshotError, match="may take 1000 bytes"):
        small.save("bob", "act_2", b"x" * 600)
    small.save("ann", "act_1", b"y" * 700)  # in the place of what was there
    assert small.load("ann", "act_1") == b"y" * 700


def test_what_a_crash_left_half_written_is_swept(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"whole")
    half = next(store.folder.glob("*/act_1.snapshot")).with_suffix(".7.part")
    half.write_bytes(b"hal")

    again = SnapshotStore(folder=store.folder, key=KEY)

    assert not half.exists()
    assert again.load("ann", "act_1") == b"whole"


def test_a_write_that_fails_leaves_the_old_one(store: SnapshotStore) -> None:
    store.save("ann", "act_1", b"old")
    part = next(store.folder.glob("*/act_1.snapshot")).with_suffix(f".{get_ident()}.part")
    part.mkdir()  # in the way

    with pytest.raises(SnapshotError, match="could not be written"):
        store.save("ann", "act_1", b"new")
    assert store.load("ann", "act_1") == b"old"


def test_threads_that_write_one_id_leave_one_whole_snapshot(store: SnapshotStore) -> None:
    bodies = [bytes([number]) * 5_000 for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda body: store.save("ann", "act_1", body), bodies))

    assert store.load("ann", "act_1") in bodies
    assert not list(store.folder.glob("*/*.part"))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SnapshotError, match="cannot keep snapshots"):
        SnapshotStore(folder=tmp_path / "file" / "snapshots", key=KEY)
