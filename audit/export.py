"""A self-contained export: every leaf, payload with nonce, and checkpoint, as JSON lines that verify offline."""

import sqlite3
from typing import BinaryIO

from audit.sources import FORMAT, Database, spelled


def export(connection: sqlite3.Connection, file: BinaryIO) -> int:
    """Write the log to `file`, and return how many leaves that were. One read transaction should hold it together.

    Raises:
        Unreadable: the database cannot be read, or holds what no log writes.
    """
    source = Database(connection)
    file.write(spelled({"format": FORMAT}))
    checkpoints = source.checkpoints()
    head = next(checkpoints, None)
    size = 0
    for row in source.rows():
        file.write(
            spelled(
                {"index": row.index, "leaf": _text(row.leaf), "nonce": _hex(row.nonce), "payload": _text(row.payload)}
            )
        )
        size += 1
        while head is not None and head.size == size:
            file.write(spelled({"checkpoint": _text(head.note), "key": _text(head.key)}))
            head = next(checkpoints, None)
    return size


def _text(value: object) -> object:
    """Bytes as text; what a damaged log holds instead is exported as it is, for the verifier to find."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
