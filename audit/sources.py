"""Where evidence is read from: a copied database, or an export. Nothing that is read is believed.

An export is canonical JSON lines: a header, then leaves in order, each checkpoint after the last leaf that it covers.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from audit.errors import Unreadable
from audit.leaf import NAMES

FORMAT = "pratique-log/1"
"""The first line of an export names it."""

_TABLES = ("leaves", "payloads", "tiles", "checkpoints")

_BROKEN = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged database raises; the latter where its own error message quotes damaged text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the evidence says of one leaf."""

    index: object
    leaf: object
    nonce: object
    payload: object
    has_payload: bool = True
    """Whether there is a payload at all, erased or not."""
    digest: object = None
    """The stored hash; None where the evidence stores none."""
    columns: dict[str, object] | None = None
    """What people query by, as stored; None where the evidence stores none."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A stored checkpoint: the size it is filed under, its note, and the verifier key recorded beside it."""

    size: object
    note: bytes
    key: bytes


class Source(Protocol):
    """A log as somebody hands it over. Every method may raise `Unreadable`."""

    def rows(self) -> Iterator[Row]: ...

    def checkpoints(self) -> Iterator[Signed]:
        """By size, smallest first."""
        ...

    def recorded_keys(self) -> list[bytes]:
        """Every verifier key that is recorded, once."""
        ...

    def tile(self, level: int, n: int) -> object:
        """The hashes of a full tile; None if it is not there."""
        ...

    def count_tiles(self) -> int | None:
        """How many there are; None where the evidence keeps none."""
        ...

    def stray_payload(self) -> object:
        """The index of a payload that belongs to no leaf, if there is one."""
        ...

    def broken_indices(self) -> str:
        """How an index disagrees with its table, so that a query would not see what is there; empty if none does."""
        ...


class Database:
    """The log's tables, as values of the storage class they have: text that became a blob hides from every query."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self) -> Iterator[Row]:
        found = self._select(
            "SELECT l.idx, l.leaf, l.hash, p.nonce, p.body, p.idx IS NOT NULL, l.id, l.kind, l.time, "
            "l.task, l.agent, l.action, l.server, l.tool, l.verdict, l.ticket "
            "FROM leaves l LEFT JOIN payloads p ON p.idx = l.idx ORDER BY l.idx"
        )
        for index, leaf, digest, nonce, payload, has_payload, *columns in found:
            named = dict(zip(("id", "kind", "time", *NAMES), columns, strict=True))
            yield Row(
                index=index,
                leaf=leaf,
                nonce=nonce,
                payload=payload,
                has_payload=bool(has_payload),
                digest=digest,
                columns=named,
            )

    def checkpoints(self) -> Iterator[Signed]:
        for size, note, key in self._select("SELECT size, note, key FROM checkpoints ORDER BY size"):
            yield Signed(size, _bytes(note), _bytes(key))

    def recorded_keys(self) -> list[bytes]:
        return [_bytes(key) for (key,) in self._select("SELECT DISTINCT key FROM checkpoints")]

    def tile(self, level: int, n: int) -> object:
        found = list(self._select("SELECT hashes FROM tiles WHERE level = ? AND n = ?", (level, n)))
        return found[0][0] if found else None

    def count_tiles(self) -> int:
        (count,) = next(self._select("SELECT count(*) FROM tiles"))
        return int(count)

    def stray_payload(self) -> object:
        found = self._select(
            "SELECT p.idx FROM payloads p LEFT JOIN leaves l ON l.idx = p.idx WHERE l.idx IS NULL "
            "ORDER BY p.idx LIMIT 1"
        )
        return next((index for (index,) in found), None)

    def broken_indices(self) -> str:
        for table in _TABLES:
            (verdict,) = next(self._select(f"PRAGMA integrity_check('{table}')"))
            if verdict != "ok":
                return str(verdict)
        return ""

    def _select(self, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        try:
            yield from cursor.execute(query, values)
        except _BROKEN as error:
            raise Unreadable(f"the database cannot be read: {error}") from error


class Export:
    """A file that `audit.export` wrote."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Iterator[Row]:
        for line in self._lines():
            if line.keys() == {"index", "leaf", "nonce", "payload"}:
                yield Row(
                    index=line["index"],
                    leaf=_encoded(line["leaf"]),
                    nonce=_unhex(line["nonce"]),
                    payload=_encoded(line["payload"]),
                )
            elif line.keys() != {"checkpoint", "key"}:
                raise Unreadable("the export holds a line that is neither leaf nor checkpoint")

    def checkpoints(self) -> Iterator[Signed]:
        size = 0
        for line in self._lines():
            if "leaf" in line:
                size += 1
            elif line.keys() == {"checkpoint", "key"}:
                yield Signed(size, _bytes(line["checkpoint"]), _bytes(line["key"]))

    def recorded_keys(self) -> list[bytes]:
        return sorted({signed.key for signed in self.checkpoints()})

    def tile(self, level: int, n: int) -> object:  # noqa: ARG002
        return None

    def count_tiles(self) -> None:
        return None

    def stray_payload(self) -> object:
        return None

    def broken_indices(self) -> str:
        return ""

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                found = _canonical(line, number + 1)
                if number == 0 and found != {"format": FORMAT}:
                    raise Unreadable(f"the export does not begin with the format {FORMAT!r}")
                if number > 0:
                    yield found


def spelled(members: dict[str, Any]) -> bytes:
    """One line of an export, in the only spelling it has."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def as_stored(text: bytes) -> str:
    """A text factory for evidence: text that is no longer UTF-8 can be read, and equals nothing."""
    return text.decode("utf-8", "surrogateescape")


@contextmanager
def open_source(path: Path) -> Iterator[tuple[Source, list[str]]]:
    """The evidence at `path`, and what is to be said about it. Nothing is written there.

    Raises:
        Unreadable: it is neither a database nor an export, or needs a file that is not usable.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    if not head.startswith(b"SQLite format 3\x00"):
        if head[:1] != b"{":
            raise Unreadable(f"{path} is neither a SQLite database nor an export")
        yield Export(path), []
        return
    query, notes = _how_to_open(path, is_wal=head[18:20] == b"\x02\x02")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{query}", uri=True)
    try:
        connection.text_factory = as_stored
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")  # one moment of the log, should it still be growing
        connection.execute("SELECT idx FROM leaves LIMIT 1")
        yield Database(connection), notes
    except _BROKEN as error:
        raise Unreadable(f"{path} cannot be read as an audit log: {error}") from error
    finally:
        connection.close()


def _how_to_open(path: Path, *, is_wal: bool) -> tuple[str, list[str]]:
    sidecar = path.with_name(path.name + "-wal")
    if sidecar.exists() and sidecar.stat().st_size:
        return "mode=ro", [f"the last writes are in {sidecar.name}: both files were read, and both belong to the copy"]
    notes = []
    if is_wal:
        notes.append(
            f"no {sidecar.name} was there: if the copy was taken while the gateway ran, its last writes may be missing"
        )
    return "mode=ro&immutable=1", notes


def _canonical(text: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"line {number} of the export is not JSON") from error
    if not isinstance(found, dict) or spelled(found) != text:
        raise Unreadable(f"line {number} of the export is not as an export writes it")
    return found


def _unhex(value: object) -> object:
    """The bytes of lower-case hex; anything else as it is, for the check to refuse."""
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return data if isinstance(data, bytes) and data.hex() == value else value


def _encoded(value: object) -> object:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _bytes(value: object) -> bytes:
    """Stored text as bytes; whatever else is stored is no text, and nothing is what it says."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
