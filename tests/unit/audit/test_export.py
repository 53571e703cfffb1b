"""An export holds all that a stranger needs, and no byte of it can change."""

import io
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import leaf as leaves
from audit.errors import Unreadable
from audit.export import export
from audit.verify import verify


def exported(connection: sqlite3.Connection) -> bytes:
    file = io.BytesIO()
    export(connection, file)
    connection.close()
    return file.getvalue()


@pytest.fixture(scope="module")
def whole(sealed) -> bytes:
    return exported(sealed.opened())


def test_an_export_verifies_without_its_database(sealed, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(whole)
    report = verify(path, keys=[sealed.vkey])
    assert (report.ok, report.size, report.checkpoints, report.notes) == (True, 532, 6, ())
    assert any(sealed.vkey in note for note in verify(path).notes)


def test_an_export_says_how_many_leaves_it_holds(sealed) -> None:
    connection = sealed.opened()
    assert export(connection, io.BytesIO()) == 532
    connection.close()


@pytest.mark.promise("log-any-edit")
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_of_an_export_can_change(sealed, whole: bytes, tmp_path_factory, data: st.DataObject) -> None:
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.jsonl"
    path.write_bytes(changed)
    try:
        assert not verify(path, keys=[sealed.vkey]).ok
    except Unreadable:
        return


@pytest.mark.parametrize("line", [1, 13, 300, 530])
def test_a_line_that_is_gone_or_doubled_is_found(sealed, whole: bytes, tmp_path: Path, line: int) -> None:
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join([*lines[:line], *lines[line + 1 :]]))
    assert not verify(path, keys=[sealed.vkey]).ok
    path.write_bytes(b"".join([*lines[: line + 1], *lines[line:]]))
    assert not verify(path, keys=[sealed.vkey]).ok or b"checkpoint" in lines[line]


def test_a_damaged_line_names_its_leaf(sealed, whole: bytes, tmp_path: Path) -> None:
    lines = whole.splitlines(keepends=True)
    at = next(place for place, line in enumerate(lines) if b'"index":40,' in line)
    lines[at] = lines[at].replace(b'"index":40,', b'"index":40 ,')
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(lines))
    report = verify(path, keys=[sealed.vkey])
    assert report.first_bad == 40
    assert "not as an export writes it" in report.problems[0].sentence


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"nonce":"', b'"nonce":"A'),
        (b'"nonce":"', b'"nonce":"zz'),
        (b'"nonce":', b'"none":'),
        (b'"nonce":"', b'"nonce":null,"x":"'),
    ],
)
def test_a_line_of_another_shape_is_found(sealed, whole: bytes, tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(whole.replace(old, new, 1))
    assert verify(path, keys=[sealed.vkey]).first_bad == 0


def test_what_is_no_export_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"format":"other"}\n')
    assert "does not begin with the format" in verify(path).problems[0].sentence
    path.write_bytes(b"{\n")
    assert "line 1 of the export is not JSON" in verify(path).problems[0].sentence


def test_an_export_of_a_damaged_database_carries_the_damage(sealed, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for damage in ("UPDATE payloads SET body = x'ff' WHERE idx = 12", "UPDATE payloads SET nonce = 7 WHERE idx = 12"):
        connection = sealed.opened()
        connection.execute(damage)
        path.write_bytes(exported(connection))
        assert verify(path, keys=[sealed.vkey]).first_bad == 12


def test_an_erased_payload_is_exported_as_erased(sealed, tmp_path: Path) -> None:
    connection = sealed.opened()
    blank = ", ".join(f"{name} = ''" for name in leaves.NAMES)
    connection.execute("UPDATE payloads SET nonce = NULL, body = NULL WHERE idx = 12")
    connection.execute(f"UPDATE leaves SET {blank} WHERE idx = 12")
    path = tmp_path / "log.jsonl"
    path.write_bytes(exported(connection))
    report = verify(path, keys=[sealed.vkey])
    assert (report.ok, report.erased) == (True, 1)
