"""Who may open the store, and what it refuses to be."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from audit.schema import metadata as audit
from gateway.errors import StoreError
from gateway.stores import migrations
from gateway.stores.database import DATABASE, open_database, read_database
from gateway.stores.migrations.upgrade import configured
from gateway.stores.schema import metadata as gateway


def rewrite(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_fresh_store_is_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    database = open_database(state)
    writer = database.writer()

    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()} == {0o600}

    writer.close()
    database.close()


def test_a_state_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_database(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_the_writer_syncs_every_commit_and_begins_nothing_by_itself(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    writer = database.writer()

    def pragma(name: str) -> object:
        return writer.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
    assert pragma("busy_timeout") == 5000
    assert writer.isolation_level is None

    writer.close()
    database.close()


@pytest.mark.promise("one-owner")
def test_a_second_process_is_told_who_has_the_store(tmp_path: Path) -> None:
    first = open_database(tmp_path)
    with pytest.raises(StoreError, match=rf"in use by another gateway \(process {os.getpid()}\)"):
        open_database(tmp_path)

    first.close()
    open_database(tmp_path).close()


def test_readers_and_the_engine_cannot_write(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    reader = database.reader()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO meta VALUES ('a', 'b')")
    with database.engine.connect() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
    reader.close()
    database.close()


def test_a_transaction_of_the_engine_reads_one_state(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    writer = database.writer()
    count = text("SELECT count(*) FROM meta")
    with database.engine.connect() as connection:
        before = connection.execute(count).scalar_one()
        writer.execute("INSERT INTO meta VALUES ('a', 'b')")
        assert connection.execute(count).scalar_one() == before
    with database.engine.connect() as connection:
        assert connection.execute(count).scalar_one() == before + 1
    writer.close()
    database.close()


def test_a_store_opened_to_be_read_needs_no_owner_and_has_no_writer(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        read_database(tmp_path)
    owner = open_database(tmp_path)
    reading = read_database(tmp_path)
    with pytest.raises(StoreError, match="opened to be read"):
        reading.writer()
    reading.close()
    owner.close()
    read_database(tmp_path).close()


@pytest.mark.promise("newer-database-refused")
def test_a_database_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    rewrite(tmp_path / DATABASE, "UPDATE alembic_version SET version_num = '9999'")
    for opening in (open_database, read_database):
        with pytest.raises(StoreError, match=r"newer Pratique \(schema 9999"):
            opening(tmp_path)
    reader = sqlite3.connect(tmp_path / DATABASE)
    assert reader.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    reader.close()


def test_an_unfinished_database_is_not_read(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    with pytest.raises(StoreError, match="older Pratique"):
        read_database(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreError, match="damaged"):
        open_database(tmp_path)
    (tmp_path / DATABASE).unlink()
    open_database(tmp_path).close()  # the failed opening did not keep the lock


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    path = tmp_path / DATABASE
    held = bytearray(path.read_bytes())
    held[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    path.write_bytes(held)
    with pytest.raises(StoreError, match="damaged"):
        open_database(tmp_path)


def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        for metadata in (gateway, audit):
            ours = set(metadata.tables)
            context.opts["include_name"] = lambda name, kind, _, ours=ours: kind != "table" or name in ours
            assert compare_metadata(context, metadata) == []
        made = {row[0] for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    assert made == {*gateway.tables, *audit.tables, "alembic_version"}
    database.close()


def test_the_revisions_named_in_the_code_are_those_of_the_scripts(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with database.engine.connect() as connection:
        scripts = ScriptDirectory.from_config(configured(connection))
        newest_first = [script.revision for script in scripts.walk_revisions()]
    assert newest_first[::-1] == [*migrations.OLDER, migrations.HEAD]
    database.close()
