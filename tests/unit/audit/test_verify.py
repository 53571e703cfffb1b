"""Whatever is done to a log, the verifier finds it and names it."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audit import leaf as leaves
from audit.check import check
from audit.errors import KeyFileError, Unreadable
from audit.event import Event
from audit.keys import Verifier, generate
from audit.merkle import leaf_hash
from audit.report import Report
from audit.sources import Database, as_stored
from audit.verify import describe, main, verify

COLUMNS = ("id", "kind", "time", *leaves.NAMES)


def looked_at(sealed, connection: sqlite3.Connection) -> Report:
    connection.text_factory = as_stored
    return check(Database(connection), (Verifier.parse(sealed.vkey),))


def tampered(sealed, *statements: str) -> Report:
    connection = sealed.opened()
    try:
        for statement in statements:
            connection.execute(statement)
        return looked_at(sealed, connection)
    finally:
        connection.close()


def rows(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    tables = ("leaves", "payloads", "tiles", "checkpoints")
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def one_byte_off(value: Any, data: st.DataObject) -> Any:
    """The stored value with one byte changed."""
    if isinstance(value, float):
        return value + data.draw(st.sampled_from([-0.5, 1e-6, 0.125, 256.0]))
    if isinstance(value, int):
        return value ^ (1 << data.draw(st.integers(10, 40)))
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    if not raw:
        return "x"
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(raw)


def put(
    connection: sqlite3.Connection, table: str, column: str, key: tuple[str, Any], value: Any, is_text: bool
) -> None:
    holder = "CAST(? AS TEXT)" if is_text else "?"
    connection.execute(f"UPDATE {table} SET {column} = {holder} WHERE {key[0]} = ?", (value, key[1]))


def test_an_untouched_log_verifies(sealed) -> None:
    report = tampered(sealed)
    assert report == Report(size=532, checkpoints=6, signed=532, erased=0, problems=(), notes=())
    assert (report.ok, report.first_bad) == (True, None)


@pytest.mark.promise("log-any-edit")
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_any_byte_of_any_leaf_payload_or_column_that_changes_names_its_leaf(sealed, data: st.DataObject) -> None:
    table, column = data.draw(
        st.sampled_from(
            [("payloads", "nonce"), ("payloads", "body"), ("leaves", "leaf"), ("leaves", "hash")]
            + [("leaves", column) for column in COLUMNS]
        )
    )
    index = data.draw(st.integers(0, sealed.size - 1))
    connection = sealed.opened()
    (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE idx = ?", (index,)).fetchone()
    try:
        put(connection, table, column, ("idx", index), one_byte_off(value, data), is_text=isinstance(value, str))
    except sqlite3.IntegrityError:
        assume(False)  # the id of another leaf: SQLite itself refuses
    report = looked_at(sealed, connection)
    connection.close()
    assert report.first_bad == index
    assert any(f"leaf {index}" in problem.sentence for problem in report.problems)


@pytest.mark.promise("log-any-edit")
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_byte_of_any_checkpoint_or_tile_that_changes_is_named(sealed, data: st.DataObject) -> None:
    table, column = data.draw(
        st.sampled_from([("checkpoints", "note"), ("checkpoints", "key"), ("checkpoints", "size"), ("tiles", "hashes")])
    )
    key = (
        ("size", data.draw(st.sampled_from(sealed.heads)))
        if table == "checkpoints"
        else ("n", data.draw(st.sampled_from([0, 1])))
    )
    connection = sealed.opened()
    (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE {key[0]} = ?", (key[1],)).fetchone()
    changed = one_byte_off(value, data)
    put(connection, table, column, key, changed, is_text=isinstance(value, str))
    report = looked_at(sealed, connection)
    connection.close()
    named = f"tile 0/{key[1]}" if table == "tiles" else f"checkpoint {changed if column == 'size' else key[1]}"
    assert any(problem.where == named for problem in report.problems)


@pytest.mark.promise("log-any-edit")
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_byte_of_the_file_that_changes_is_found_or_is_not_of_the_log(
    sealed, tmp_path_factory, data: st.DataObject
) -> None:
    image = bytearray(sealed.image)
    at = data.draw(st.integers(100, len(image) - 1))
    image[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.db"
    path.write_bytes(image)
    try:
        report = verify(path, keys=[sealed.vkey])
    except Unreadable:
        return
    if report.ok:  # a free byte, a statistic: the log itself must be what it was
        before, after = sealed.opened(), sqlite3.connect(path)
        assert rows(after) == rows(before)
        before.close()
        after.close()


@pytest.mark.promise("log-any-edit")
@given(index=st.integers(0, 530))
@settings(max_examples=20, deadline=None)
def test_a_deleted_leaf_is_named(sealed, index: int) -> None:
    report = tampered(sealed, f"DELETE FROM leaves WHERE idx = {index}", f"DELETE FROM payloads WHERE idx = {index}")
    assert report.first_bad == index
    assert f"leaf {index} is missing" in report.problems[0].sentence


@pytest.mark.promise("log-any-edit")
@given(pair=st.tuples(st.integers(0, 531), st.integers(0, 531)).filter(lambda pair: pair[0] != pair[1]))
@settings(max_examples=20, deadline=None)
def test_leaves_that_change_places_are_found(sealed, pair: tuple[int, int]) -> None:
    one, two = pair
    swaps = [
        statement
        for table in ("leaves", "payloads")
        for statement in (
            f"UPDATE {table} SET idx = -1 WHERE idx = {one}",
            f"UPDATE {table} SET idx = {one} WHERE idx = {two}",
            f"UPDATE {table} SET idx = {two} WHERE idx = -1",
        )
    ]
    report = tampered(sealed, *swaps)
    first = min(pair)
    # each row is whole by itself; a tile names the leaf, and the last, open tile leaves it to the checkpoints
    below = max(head for head in (0, *sealed.heads) if head <= first)
    assert report.first_bad == (first if first < 512 else below)


def test_several_missing_leaves_are_counted(sealed) -> None:
    report = tampered(sealed, "DELETE FROM leaves WHERE idx BETWEEN 5 AND 8")
    assert "leaves 5 to 8 are missing" in report.problems[0].sentence


@pytest.mark.promise("log-any-edit")
def test_an_inserted_leaf_is_found(sealed, make_event: Callable[..., Event]) -> None:
    shift = [
        statement
        for table in ("leaves", "payloads")
        for statement in (
            f"UPDATE {table} SET idx = -idx - 1 WHERE idx >= 300",
            f"UPDATE {table} SET idx = -idx WHERE idx < 0",
        )
    ]
    copy = (
        "INSERT INTO leaves SELECT 300, 'evt_new', kind, time, task, agent, action, server, tool, verdict, ticket, "
        "leaf, hash FROM leaves WHERE idx = 301"
    )
    report = tampered(
        sealed, *shift, copy, "INSERT INTO payloads SELECT 300, nonce, body FROM payloads WHERE idx = 301"
    )
    assert report.first_bad == 300


def test_a_leaf_before_the_first_is_found(sealed) -> None:
    report = tampered(
        sealed,
        "INSERT INTO leaves SELECT -1, 'evt_new', kind, time, task, agent, action, server, tool, verdict, ticket, "
        "leaf, hash FROM leaves WHERE idx = 0",
    )
    assert report.first_bad == 0


@pytest.mark.promise("log-any-edit")
@given(size=st.integers(1, 531))
@settings(max_examples=15, deadline=None)
def test_a_log_cut_short_is_found_by_its_own_checkpoint(sealed, size: int) -> None:
    report = tampered(sealed, f"DELETE FROM leaves WHERE idx >= {size}", f"DELETE FROM payloads WHERE idx >= {size}")
    assert report.first_bad == size
    assert "truncated" in report.problems[0].what


def forge(connection: sqlite3.Connection, index: int) -> None:
    """Replace a leaf by another that is whole by itself: payload, commitment, hash and columns all agree."""
    nonce = bytes(32)
    payload = b'{"action":"","agent":"","body":{},"server":"","task":"","ticket":"","tool":"","verdict":""}'
    leaf = leaves.encode(commitment=leaves.commitment(nonce, payload), id="evt_forged", kind="listed", micros=1_000_000)
    connection.execute(
        "UPDATE leaves SET id='evt_forged', kind='listed', time=1.0, task='', agent='', action='', server='', tool='', "
        "verdict='', ticket='', leaf=?, hash=? WHERE idx=?",
        (leaf, leaf_hash(leaf), index),
    )
    connection.execute("UPDATE payloads SET nonce=?, body=? WHERE idx=?", (nonce, payload, index))


def test_a_forged_leaf_that_is_whole_by_itself_is_named_by_its_tile(sealed) -> None:
    connection = sealed.opened()
    forge(connection, 400)
    report = looked_at(sealed, connection)
    connection.close()
    assert report.first_bad == 400
    assert report.problems[0].where == "tile 0/1"


def test_a_forged_leaf_whose_tile_was_forged_too_is_between_two_checkpoints(sealed) -> None:
    connection = sealed.opened()
    forge(connection, 400)
    hashes = b"".join(
        digest for (digest,) in connection.execute("SELECT hash FROM leaves WHERE idx BETWEEN 256 AND 511")
    )
    connection.execute("UPDATE tiles SET hashes = ? WHERE n = 1", (hashes,))
    report = looked_at(sealed, connection)
    connection.close()
    assert report.first_bad == 300
    assert "among leaves 300 to 516 one is not what was signed" in report.problems[0].sentence
    assert (report.checkpoints, report.signed) == (4, 300)


@pytest.mark.promise("log-truncation")
def test_a_shortened_log_with_its_checkpoints_is_found_by_one_kept_elsewhere(sealed, tmp_path: Path) -> None:
    connection = sealed.opened()
    (note,) = connection.execute("SELECT note FROM checkpoints WHERE size = 517").fetchone()
    kept = tmp_path / "checkpoint"
    kept.write_text(note)
    for statement in (
        "leaves WHERE idx >= 300",
        "payloads WHERE idx >= 300",
        "checkpoints WHERE size > 300",
        "tiles WHERE n = 1",
    ):
        connection.execute(f"DELETE FROM {statement}")
    path = tmp_path / "copy.db"
    path.write_bytes(connection.serialize())
    connection.close()

    assert verify(path, keys=[sealed.vkey]).ok  # nothing inside it shows what is gone
    report = verify(path, keys=[sealed.vkey], checkpoint=kept)

    assert report.first_bad == 300
    assert report.problems[0].sentence == "the checkpoint given: truncated: 517 leaves were signed, 300 are here"


def test_a_checkpoint_kept_elsewhere_must_be_this_logs_own(sealed, tmp_path: Path) -> None:
    path, kept = tmp_path / "copy.db", tmp_path / "checkpoint"
    path.write_bytes(sealed.image)
    kept.write_text(generate("other").sign("other\n1\nAAAA\n"))
    assert "no key that is trusted" in verify(path, keys=[sealed.vkey], checkpoint=kept).problems[0].sentence
    with pytest.raises(Unreadable):
        verify(path, checkpoint=tmp_path / "missing")


def test_checkpoints_of_two_logs_in_one_do_not_verify(book, make_event: Callable[..., Event]) -> None:
    book.write(make_event(0), now=1.0)
    book.log.origin = "elsewhere"
    book.write(make_event(1), now=2.0)
    report = check(Database(book.connection), (book.signer.verifier,))
    assert "it is of the log 'elsewhere'" in report.problems[0].sentence


@pytest.mark.promise("log-erasure")
def test_an_erased_payload_leaves_every_proof_standing(sealed) -> None:
    blank = ", ".join(f"{name} = ''" for name in leaves.NAMES)
    report = tampered(
        sealed,
        "UPDATE payloads SET nonce = NULL, body = NULL WHERE idx = 12",
        f"UPDATE leaves SET {blank} WHERE idx = 12",
    )
    assert report.ok
    assert report.erased == 1
    assert "1 payloads were erased" in report.notes[0]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE payloads SET nonce = NULL WHERE idx = 12", "half erased"),
        ("UPDATE payloads SET nonce = NULL, body = NULL WHERE idx = 12", "the column task"),
        ("DELETE FROM payloads WHERE idx = 12", "the payload is missing"),
        ("UPDATE payloads SET nonce = zeroblob(31) WHERE idx = 12", "malformed"),
        ("UPDATE leaves SET leaf = 7 WHERE idx = 12", "not bytes"),
        ("UPDATE leaves SET time = 'noon' WHERE idx = 12", "the column time"),
        ("UPDATE leaves SET task = x'ff' WHERE idx = 12", "the column task"),
        ("UPDATE leaves SET task = CAST(task AS BLOB) WHERE idx = 12", "the column task is b'task_0'"),
        ("UPDATE payloads SET body = CAST(body AS TEXT) WHERE idx = 12", "malformed"),
    ],
)
def test_what_is_half_gone_is_named(sealed, statement: str, what: str) -> None:
    report = tampered(sealed, statement)
    assert report.first_bad == 12
    assert what in report.problems[0].sentence


def test_a_payload_without_a_leaf_is_named(sealed) -> None:
    report = tampered(sealed, "INSERT INTO payloads VALUES (999, NULL, NULL)")
    assert report.first_bad == 999
    assert "belongs to no leaf" in report.problems[0].sentence


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tiles WHERE n = 1",
        "INSERT INTO tiles VALUES (3, 0, zeroblob(8192))",
        "UPDATE tiles SET n = 9 WHERE n = 1",
    ],
)
def test_tiles_are_those_that_the_checkpoints_cover(sealed, statement: str) -> None:
    report = tampered(sealed, statement)
    assert report.problems[0].where == "tiles"


def test_a_log_that_nobody_signed_does_not_verify(sealed) -> None:
    report = tampered(sealed, "DELETE FROM checkpoints")
    assert "nothing is signed" in report.problems[0].sentence


def test_leaves_after_the_last_checkpoint_are_said_to_be_unsigned(sealed) -> None:
    report = tampered(sealed, "DELETE FROM checkpoints WHERE size = 532")
    assert report.ok
    assert report.notes == ("leaves 517 to 531 not signed yet: nothing proves them",)


def test_an_intent_without_an_outcome_is_a_note(book, make_event: Callable[..., Event]) -> None:
    book.write(
        make_event(0, "effect.intent", action="act_done"),
        make_event(1, "effect.intent", action="act_lost"),
        make_event(2, "effect.outcome", action="act_done", verdict="ok"),
        now=1.0,
    )
    report = check(Database(book.connection), (book.signer.verifier,))
    assert report.ok
    assert report.notes == ("the intent of act_lost (leaf 1) has no outcome",)


def test_a_leaf_that_claims_nothing_was_sent_must_have_such_an_outcome(book, make_event: Callable[..., Event]) -> None:
    nonce, payload = (
        bytes(32),
        b'{"action":"","agent":"","body":{},"server":"","task":"","ticket":"","tool":"","verdict":"ok"}',
    )
    leaf = leaves.encode(
        commitment=leaves.commitment(nonce, payload), id="evt_0", kind="effect.outcome", micros=0, not_sent=True
    )
    book.connection.execute(
        "INSERT INTO leaves VALUES (0,'evt_0','effect.outcome',0.0,'','','','','','ok','',?,?)", (leaf, leaf_hash(leaf))
    )
    book.connection.execute("INSERT INTO payloads VALUES (0,?,?)", (nonce, payload))
    report = check(Database(book.connection), (book.signer.verifier,))
    assert "differ on whether anything was sent" in report.problems[0].sentence


# ---- files and the command line -----------------------------------------------------------------------------------


@pytest.fixture
def copy(sealed, tmp_path: Path) -> Path:
    path = tmp_path / "copy.db"
    path.write_bytes(sealed.image)
    return path


def test_without_a_key_the_recorded_one_is_used_and_that_is_said(sealed, copy: Path) -> None:
    report = verify(copy)
    assert report.ok
    assert any("no key was given" in note and sealed.vkey in note for note in report.notes)


def test_a_log_signed_by_another_key_does_not_verify_under_the_one_given(copy: Path) -> None:
    report = verify(copy, keys=[generate("pratique.test/log").vkey])
    assert "not trusted here" in report.problems[0].sentence


def test_a_recorded_key_that_is_none_is_named(sealed) -> None:
    connection = sealed.opened()
    connection.execute("UPDATE checkpoints SET key = 'none'")
    report = check(Database(connection))
    connection.close()
    assert "the recorded key cannot be used" in report.problems[0].sentence


def test_writes_that_are_still_in_the_wal_are_read_with_it_and_missed_without(book, make_event, tmp_path: Path) -> None:
    book.connection.execute("PRAGMA journal_mode = WAL")
    book.write(make_event(0), now=1.0)
    book.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    book.write(make_event(1), now=2.0)
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    for folder in (whole, bare):
        folder.mkdir()
        (folder / "log.db").write_bytes((tmp_path / "pratique.db").read_bytes())
    (whole / "log.db-wal").write_bytes((tmp_path / "pratique.db-wal").read_bytes())

    with_it = verify(whole / "log.db", keys=[book.signer.vkey])
    without = verify(bare / "log.db", keys=[book.signer.vkey])

    assert (with_it.ok, with_it.size) == (True, 2)
    assert "the last writes are in log.db-wal" in with_it.notes[0]
    assert (without.ok, without.size) == (True, 1)
    assert "no log.db-wal was there" in without.notes[0]
    assert [file.name for file in bare.iterdir()] == ["log.db"]


def test_the_verifier_writes_nothing(copy: Path) -> None:
    copy.chmod(0o400)
    before = copy.read_bytes()
    assert verify(copy).ok
    assert copy.read_bytes() == before
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]


def test_the_exit_says_yes_no_or_unreadable(
    sealed, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(copy), "--key", sealed.vkey]) == 0
    assert capsys.readouterr().out == "verified: 532 leaves, 6 checkpoints hold, 532 leaves are signed\n"

    connection = sqlite3.connect(copy)
    connection.execute("UPDATE payloads SET body = replace(body, '12', '13') WHERE idx = 12")
    connection.execute("UPDATE payloads SET body = CAST(body AS BLOB) WHERE idx = 12")
    connection.commit()
    connection.close()
    assert main([str(copy), "--key", sealed.vkey]) == 1
    assert (
        "leaf 12: the payload is not what the leaf commits to\nNOT verified, first bad leaf 12"
        in capsys.readouterr().out
    )

    for path in (tmp_path / "missing", tmp_path, Path(__file__)):
        assert main([str(path)]) == 2
    assert main([str(copy), "--key", "nonsense"]) == 2
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).execute("CREATE TABLE t (x)").connection.close()
    assert main([str(empty)]) == 2
    assert "cannot be read as an audit log: no such table: leaves" in capsys.readouterr().err
    with pytest.raises(KeyFileError):
        verify(copy, keys=["nonsense"])


def test_a_verdict_without_a_bad_leaf_names_none(sealed) -> None:
    report = tampered(sealed, "DELETE FROM tiles")
    assert describe(report)[-1].startswith("NOT verified: ")


@pytest.mark.promise("log-verifier-alone")
def test_the_verifier_needs_nothing_of_the_gateway(sealed, copy: Path) -> None:
    program = (
        "import sys; from audit.verify import main; code = main(sys.argv[1:]); "
        "foreign = {'gateway', 'policies', 'sandbox', 'llmcore', 'sqlalchemy', 'msgspec', 'typing_extensions'}; "
        "print(sorted(foreign & {name.split('.')[0] for name in sys.modules})); sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(copy), "--key", sealed.vkey], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"
