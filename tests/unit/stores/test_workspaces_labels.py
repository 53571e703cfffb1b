"""Labels of files: whom they reach, that they only rise, and that what is in memory is what is on disk."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from support.cases import ALICE

from gateway.options import Access, Mount
from gateway.stores import files, schema
from gateway.stores.files import NOTHING, FileLabel, FileLabels
from gateway.stores.memory import Memory
from policies.action import Action, Kind
from policies.label import CLEAN, Integrity, Label, Source
from policies.packs import load_pack

DIRTY = Label(integrity=Integrity.UNTRUSTED, readers=frozenset({"user"}), classes=frozenset({"passport"}))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(make(tmp_path / "labels.db")) as connection:
        yield connection


def make(path: Path) -> sqlite3.Connection:
    engine = create_engine(f"sqlite:///{path}")
    schema.metadata.create_all(engine)
    engine.dispose()
    return sqlite3.connect(path, isolation_level=None)


def mounts(**servers: str) -> dict[str, tuple[Mount, ...]]:
    """`server="/path:mode"`."""
    split = {name: text.rpartition(":") for name, text in servers.items()}
    return {name: (Mount(path=Path(path), access=Access(mode)),) for name, (path, _, mode) in split.items()}


def row(path: str, server: str = "a", label: Label = DIRTY, digest: str = "d") -> FileLabel:
    return FileLabel(path=path, server=server, label=label, task="t", digest=digest, time=1.0)


def test_a_label_reaches_every_server_that_sees_the_path_or_part_of_it() -> None:
    labels = FileLabels(
        mounts(
            a="/w/docs:rw", whole="/w:ro", same="/w/docs:ro", file="/w/docs/x.txt:ro", other="/w/docsy:ro", up="/v:ro"
        )
    )
    labels.raised([row("/w/docs/x.txt")])
    reached = {name for name in labels.mounts if labels.carried(name) is not NOTHING}
    assert reached == {"a", "whole", "same", "file"}
    labels.raised([row("/w/docs", "b")])
    assert labels.carried("a").is_foreign
    assert labels.carried("other") is NOTHING


def test_what_a_server_wrote_itself_leaves_its_proofs_and_what_another_wrote_does_not(db: sqlite3.Connection) -> None:
    labels = FileLabels(mounts(bank="/bank:direct"))
    memory = Memory(
        reader=db,
        key=b"k",
        definitions=None,  # type: ignore[arg-type]  # not asked
        packs={"bank": load_pack("bank")},
        confines={},
        clock=lambda: 1.0,
        files=labels,
    )
    said = {"structuredContent": {"payees": [{"name": "Zoë", "iban": "DE89370400440532013000"}]}, "content": []}
    action = Action(id="act", kind=Kind.CALL_TOOL, subject=ALICE, server="bank", name="list_payees", arguments={})
    before = memory.read(action, said)
    assert before.atoms
    assert "passport" not in before.label.classes

    labels.raised([row("/bank", "bank")])
    own = memory.read(action, said)
    assert (own.atoms, own.label.integrity) == (before.atoms, Integrity.UNTRUSTED)
    assert {"passport"} <= own.label.classes
    assert {"passport"} <= memory.worst_label("bank", "list_payees").classes

    labels.raised([row("/bank/accounts.txt", "files")])
    assert memory.read(action, said).atoms == ()


@pytest.mark.parametrize("label", [CLEAN, Label(integrity=Integrity.TRUSTED, sources=frozenset({Source("a", "t")}))])
def test_who_has_read_nothing_that_matters_leaves_nothing(label: Label) -> None:
    assert FileLabels(mounts(a="/w:direct")).direct("a", label, "t", 1.0) == ()


def test_only_direct_mounts_are_written_to_at_once() -> None:
    labels = FileLabels(mounts(a="/w:direct", b="/w:rw", c="/w:ro"))
    assert [one.path for name in "abcd" for one in labels.direct(name, DIRTY, "t", 1.0)] == ["/w"]


def test_a_label_that_adds_nothing_is_not_written_again(db: sqlite3.Connection) -> None:
    assert len(files.raise_labels(db, [row("/x")])) == 1
    sources = Label(
        integrity=DIRTY.integrity, readers=DIRTY.readers, classes=DIRTY.classes, sources=frozenset({Source("s", "t")})
    )
    assert files.raise_labels(db, [row("/x"), row("/x", label=CLEAN), row("/x", label=sources)]) == ()
    assert len(files.raise_labels(db, [row("/x", digest="e")])) == 1


def test_a_person_clears_a_path_and_what_is_beneath_it(db: sqlite3.Connection) -> None:
    labels = FileLabels(mounts(a="/w:ro"))
    labels.raised(files.raise_labels(db, [row("/w/a"), row("/w/a/b"), row("/w/ab")]))
    labels.cleared(files.clear(db, "/w/a"))
    assert [one.path for one in files.listed(db)] == ["/w/ab"]
    assert labels.carried("a") is not NOTHING
    labels.cleared(files.clear(db, "/"))
    assert labels.carried("a") is NOTHING


levels = st.builds(
    Label,
    integrity=st.sampled_from(list(Integrity)),
    readers=st.none() | st.frozensets(st.sampled_from(["user", "boss"])),
    classes=st.frozensets(st.sampled_from(["passport", "bank"])),
)
rows = st.lists(
    st.builds(row, st.sampled_from(["/w", "/w/a", "/w/a/b", "/v/a"]), st.sampled_from("ab"), levels), max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=rows)
def test_labels_only_rise_and_a_restart_changes_nothing(db: sqlite3.Connection, written: list[FileLabel]) -> None:
    files.clear(db, "/")
    seen = mounts(a="/w:ro", b="/w/a:ro", c="/v:ro")
    labels = FileLabels(seen)
    for one in written:
        before = {name: labels.carried(name).label for name in seen}
        labels.raised(files.raise_labels(db, [one]))
        assert all(before[name].flows_to(labels.carried(name).label) for name in seen)
        if one.path.startswith("/w"):
            assert one.label.flows_to(labels.carried("a").label)
    again = FileLabels(seen)
    again.read(db)
    assert {name: again.carried(name).label.bare() for name in seen} == {
        name: labels.carried(name).label.bare() for name in seen
    }
    assert {name: again.carried(name).is_foreign for name in seen} == {
        name: labels.carried(name).is_foreign for name in seen
    }
