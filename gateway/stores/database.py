"""The database file: who may open it, how connections are made, that it is neither damaged nor newer than this code.

One process owns the store (`pratique.lock`); it writes through one connection, the ledger's. Everyone else reads.
"""

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from gateway.errors import StoreError
from gateway.stores import migrations

DATABASE = "pratique.db"
LOCK = "pratique.lock"
BUSY_S = 5.0
"""How long a connection waits for another's lock: a reader's checkpoint, a person's sqlite3 shell."""

CHECKPOINT_PAGES = 4_000
"""How far the WAL grows before it is copied back (16 MB). Every batch writes the same last pages of each table again:
the longer it grows, the fewer copies; SQLite's own 1,000 are reached after some forty calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An opened store. `engine` and `reader` cannot write; the ledger's connection is the only one that does."""

    path: Path
    engine: Engine
    """For queries and exports: each of its transactions reads one consistent state."""
    _lock: int | None
    """The descriptor whose flock makes this process the owner; None: read-only, owned by nobody or another."""

    def writer(self) -> sqlite3.Connection:
        """A connection in autocommit mode for the ledger's thread (threads may change, one at a time uses it)."""
        if self._lock is None:
            raise StoreError("this store was opened to be read")
        return _writer(self.path)

    def reader(self) -> sqlite3.Connection:
        """A read-only connection in autocommit mode; `BEGIN` makes several reads one snapshot."""
        return _reader(self.path)

    def free_bytes(self) -> int:
        """What the file system still has for us."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Let another process open it. The ledger has stopped before."""
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)


def open_database(state: Path) -> Database:
    """Own the store in the folder `state`, made and upgraded as needed.

    Raises:
        StoreError: another process owns it, a newer Pratique wrote it, it is damaged, or it cannot be opened.
    """
    path = state / DATABASE
    try:
        _private_folder(state)
        lock = _owned(state)
    except OSError as error:
        raise StoreError(f"the state folder {state} cannot be used: {error.strerror}") from error
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with _usable(path, _writer) as connection:
            revision = _revision(connection)
        if revision != migrations.HEAD:
            _upgrade(path, revision)
        return Database(path=path, engine=_engine(path, _reader), _lock=lock)
    except OSError as error:
        os.close(lock)
        raise StoreError(f"the database {path} cannot be opened: {error.strerror}") from error
    except BaseException:
        os.close(lock)
        raise


def read_database(state: Path) -> Database:
    """The store as it is, for commands that only read, whether or not a gateway runs.

    Raises:
        StoreError: there is none, it is damaged, or it is older or newer than this code.
    """
    path = state / DATABASE
    if not path.is_file():
        raise StoreError(f"there is no database in {state}: `pratique serve` makes one")
    with _usable(path, _reader) as connection:
        revision = _revision(connection)
    if revision is None or revision in migrations.OLDER:
        raise StoreError(f"the database {path} was written by an older Pratique: `pratique serve` upgrades it")
    if revision != migrations.HEAD:
        raise _newer(path, revision)
    return Database(path=path, engine=_engine(path, _reader), _lock=None)


# ---- who may ----------------------------------------------------------------------------------------------------


def _private_folder(state: Path) -> None:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = state.stat()
    if found.st_uid != os.geteuid():
        raise StoreError(f"the state folder {state} belongs to another user (uid {found.st_uid})")
    if stat.S_IMODE(found.st_mode) != 0o700:
        state.chmod(0o700)


def _owned(state: Path) -> int:
    """A descriptor that holds the lock; the lock ends with the process, however it ends."""
    lock = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StoreError(
            f"the store in {state} is in use by another gateway (process {holder}): stop it, or give this one --state"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


# ---- is it sound ------------------------------------------------------------------------------------------------


@contextmanager
def _usable(path: Path, connect: Callable[[Path], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    """A connection to a database that passed SQLite's quick check."""
    try:
        connection = connect(path)
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"the database {path} is damaged ({found}): restore a copy")
            yield connection
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise StoreError(f"the database {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"the database {path} is damaged ({error}): restore a copy") from error


def _revision(connection: sqlite3.Connection) -> str | None:
    """The migration that the file stands at; None: a fresh file."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _upgrade(path: Path, revision: str | None) -> None:
    if revision is not None and revision not in migrations.OLDER:
        raise _newer(path, revision)
    from gateway.stores.migrations.upgrade import upgrade  # noqa: PLC0415 - alembic costs a start 0.4 s, and is rarely needed

    engine = _engine(path, _writer)
    try:
        with engine.begin() as connection:
            upgrade(connection)
    except sqlite3.Error as error:
        raise StoreError(f"the database {path} cannot be upgraded: {error}") from error
    finally:
        engine.dispose()


def _newer(path: Path, revision: str) -> StoreError:
    return StoreError(
        f"the database {path} was written by a newer Pratique (schema {revision}, this one knows {migrations.HEAD}):"
        " upgrade Pratique, or give it another --state"
    )


# ---- connections ------------------------------------------------------------------------------------------------


def _writer(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _engine(path: Path, connect: Callable[[Path], sqlite3.Connection]) -> Engine:
    engine = create_engine("sqlite://", creator=lambda: connect(path), poolclass=NullPool)
    # The driver is in autocommit mode, so that SQLAlchemy's BEGIN has to be written out.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine
