"""The writer: leaves with the change they record, checkpoints within a second, and a stand after every fall."""

import sqlite3
from collections.abc import Callable

import pytest

from audit.check import check
from audit.checkpoint import open_checkpoint
from audit.errors import LogDamaged, NotWriting
from audit.event import Event
from audit.keys import generate
from audit.log import AuditLog
from audit.merkle import leaf_hash, root
from audit.sources import Database

MakeEvent = Callable[..., Event]


def leaves_of(connection: sqlite3.Connection) -> list[bytes]:
    return [leaf for (leaf,) in connection.execute("SELECT leaf FROM leaves ORDER BY idx")]


def test_a_checkpoint_vouches_for_every_leaf_before_it(book, make_event: MakeEvent) -> None:
    book.write(*(make_event(number) for number in range(5)))
    book.write(make_event(5), now=1.0)
    size, note = book.connection.execute("SELECT size, note FROM checkpoints").fetchone()

    head = open_checkpoint(note.encode(), (book.signer.verifier,))

    assert size == head.size == 6
    assert head.root == root([leaf_hash(leaf) for leaf in leaves_of(book.connection)])
    assert check(Database(book.connection), (book.signer.verifier,)).ok


@pytest.mark.promise("log-salted")
def test_a_leaf_holds_no_value_and_equal_events_have_unequal_leaves(book, make_event: MakeEvent) -> None:
    same = {"payload": {"iban": "DE89370400440532013000"}, "tool": "pay", "agent": "agt_x"}
    book.write(make_event(1, **same))
    one, payload = leaves_of(book.connection)[0], book.connection.execute("SELECT body FROM payloads").fetchone()[0]
    assert b"DE89370400440532013000" in payload
    assert b"DE89" not in one
    assert b"agt_x" not in one
    assert b"pay" not in one

    nonces = set()
    book.write(*(make_event(number, **same) for number in range(2, 40)))
    for (nonce,) in book.connection.execute("SELECT nonce FROM payloads"):
        assert len(nonce) == 32
        nonces.add(nonce)
    assert len(nonces) == 39


def test_nothing_is_appended_outside_a_transaction(book, make_event: MakeEvent) -> None:
    with pytest.raises(NotWriting):
        book.log.append(book.connection, [make_event(1)])
    assert leaves_of(book.connection) == []


def test_a_leaf_is_rolled_back_with_the_change_it_records(book, make_event: MakeEvent) -> None:
    book.write(make_event(0), now=1.0)
    book.connection.execute("BEGIN IMMEDIATE")
    book.log.append(book.connection, [make_event(1), make_event(2)])
    book.log.checkpoint(book.connection, 2.0)
    book.connection.execute("ROLLBACK")
    assert book.log.size == 1

    book.log.rebuild(book.connection)
    book.write(make_event(3), now=3.0)

    assert [row[0] for row in book.connection.execute("SELECT id FROM leaves ORDER BY idx")] == [
        make_event(0).id,
        make_event(3).id,
    ]
    assert check(Database(book.connection), (book.signer.verifier,)).ok


def test_a_failed_statement_leaves_nothing_once_rebuilt(book, make_event: MakeEvent) -> None:
    book.write(make_event(0))
    book.connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.IntegrityError):
        book.log.append(book.connection, [make_event(1), make_event(0)])
    book.connection.execute("ROLLBACK")
    book.log.rebuild(book.connection)
    assert book.log.size == 1
    book.write(make_event(1), now=1.0)
    assert check(Database(book.connection), (book.signer.verifier,)).ok


@pytest.mark.parametrize("sizes", [[3], [256], [255, 1, 1], [1, 600, 2], [512, 300]])
def test_a_restarted_log_goes_on_where_it_stood(book, make_event: MakeEvent, sizes: list[int]) -> None:
    number = 0
    for turn, size in enumerate(sizes):
        book.log = book.reopened()
        assert book.log.size == number
        book.write(*(make_event(n) for n in range(number, number + size)), now=float(turn) if turn % 2 == 0 else None)
        number += size
    book.log = book.reopened()
    book.write(make_event(number), now=99.0)

    report = check(Database(book.connection), (book.signer.verifier,))
    assert report.ok
    assert (report.size, report.signed) == (number + 1, number + 1)


def test_a_leaf_waits_a_second_at_most_for_its_signature(book, make_event: MakeEvent) -> None:
    assert not book.log.due(0.0)
    book.write(make_event(0))
    assert book.log.due(0.0)
    book.write(now=100.0)
    assert not book.log.due(200.0)
    book.write(make_event(1))
    assert not book.log.due(100.9)
    assert book.log.due(101.0)
    assert book.log.due(99.0)  # the clock went back


def test_an_unchanged_tree_is_not_signed_again(book, make_event: MakeEvent) -> None:
    book.write(now=1.0)
    book.write(make_event(0), now=2.0)
    book.write(now=3.0)
    assert book.connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (1,)


def test_full_tiles_are_written_with_the_checkpoint_that_covers_them(book, make_event: MakeEvent) -> None:
    book.write(*(make_event(number) for number in range(255)), now=1.0)
    book.write(make_event(255))
    assert book.connection.execute("SELECT count(*) FROM tiles").fetchone() == (0,)
    book.write(make_event(256), now=2.0)
    (hashes,) = book.connection.execute("SELECT hashes FROM tiles WHERE level = 0 AND n = 0").fetchone()
    assert hashes == b"".join(leaf_hash(leaf) for leaf in leaves_of(book.connection)[:256])


@pytest.mark.promise("log-no-append-to-damaged")
@pytest.mark.parametrize(
    ("damage", "leaf"),
    [
        ("UPDATE leaves SET leaf = CAST(leaf || 'x' AS BLOB) WHERE idx = 299", 299),
        ("UPDATE leaves SET leaf = CAST(leaf AS TEXT) WHERE idx = 299", 299),
        ("UPDATE leaves SET hash = zeroblob(32) WHERE idx = 270", 270),
        ("DELETE FROM leaves WHERE idx = 280", 280),
        ("DELETE FROM leaves WHERE idx >= 290", 290),
        ("DELETE FROM leaves", 0),
        ("UPDATE tiles SET hashes = zeroblob(8192)", 0),
        ("UPDATE tiles SET hashes = zeroblob(8191)", 0),
        ("UPDATE tiles SET n = 1", None),
        ("DELETE FROM checkpoints", 0),
        ("UPDATE checkpoints SET note = replace(note, '300', '299')", None),
        ("UPDATE checkpoints SET size = 299", None),
    ],
)
def test_a_damaged_log_takes_no_more_leaves(book, make_event: MakeEvent, damage: str, leaf: int | None) -> None:
    book.write(*(make_event(number) for number in range(300)), now=1.0)
    book.connection.execute(damage)
    with pytest.raises(LogDamaged) as caught:
        book.reopened()
    assert caught.value.leaf == leaf


def test_a_replaced_leaf_that_fits_by_itself_is_named_at_start(book, make_event: MakeEvent) -> None:
    book.write(*(make_event(number) for number in range(10)), now=1.0)
    book.write(*(make_event(number) for number in range(10, 20)), now=2.0)
    ((leaf, digest),) = book.connection.execute("SELECT leaf, hash FROM leaves WHERE idx = 3")
    nonce, body = book.connection.execute("SELECT nonce, body FROM payloads WHERE idx = 3").fetchone()
    book.connection.execute("UPDATE leaves SET leaf = ?, hash = ? WHERE idx = 14", (leaf, digest))
    book.connection.execute("UPDATE payloads SET nonce = ?, body = ? WHERE idx = 14", (nonce, body))
    with pytest.raises(LogDamaged, match="leaf 14"):
        book.reopened()


def test_another_key_or_origin_does_not_continue_a_log(book, make_event: MakeEvent) -> None:
    book.write(make_event(0), now=1.0)
    with pytest.raises(LogDamaged, match="does not hold under"):
        AuditLog(book.log.origin, generate(book.log.origin)).rebuild(book.connection)
    with pytest.raises(LogDamaged, match="not of elsewhere"):
        AuditLog("elsewhere", book.signer).rebuild(book.connection)
    assert book.log.vkey == book.signer.vkey


def test_leaves_that_a_crash_left_unsigned_are_kept(book, make_event: MakeEvent) -> None:
    book.write(make_event(0), now=1.0)
    book.write(make_event(1))
    book.log = book.reopened()
    assert book.log.size == 2
    assert book.log.due(1.0)


def test_lost_tiles_are_written_again_with_the_next_checkpoint(book, make_event: MakeEvent) -> None:
    book.write(*(make_event(number) for number in range(600)), now=1.0)
    book.connection.execute("DELETE FROM tiles WHERE n = 1")
    book.log = book.reopened()
    book.write(make_event(600), now=2.0)
    assert check(Database(book.connection), (book.signer.verifier,)).ok
