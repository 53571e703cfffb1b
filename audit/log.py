"""The writer's side: events become leaves in the transaction of what they record, and the tree's head is signed.

Used by one thread, on one connection. Every method but `committed` runs inside the caller's open transaction; after
any failure (a statement, a rollback, a COMMIT in doubt) `rebuild` comes before the next `append`.
"""

import os
import sqlite3
from collections.abc import Sequence

import msgspec

from audit import leaf as leaves
from audit.check import check
from audit.checkpoint import Checkpoint, open_checkpoint
from audit.errors import LogDamaged, NoteError, NotWriting
from audit.event import Event
from audit.keys import Signer
from audit.merkle import Frontier, leaf_hash
from audit.sources import Database
from audit.tiles import TILE_BYTES, Tile, Tiler

CHECKPOINT_EVERY_S = 1.0
"""How long a leaf may go unsigned."""

_encode = msgspec.json.Encoder().encode


class AuditLog:
    """One log: where it stands, and what it signs with."""

    def __init__(self, origin: str, signer: Signer) -> None:
        self.origin = origin
        self.size = 0
        """Leaves that are on disk."""
        self._signer = signer
        self._tree = Frontier()
        self._tiler = Tiler()
        self._signed_size = 0
        self._signed_at: float | None = None

    @property
    def vkey(self) -> str:
        """The text that others verify this log's checkpoints with."""
        return self._signer.vkey

    def append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        """Insert a leaf for each event, in order.

        Raises:
            NotWriting: no transaction is open.
            sqlite3.Error: the database could not take them; `rebuild` before anything else.
        """
        if not connection.in_transaction:
            raise NotWriting("an event is appended in the transaction of what it records; none is open")
        index = self._tree.size
        nonces = os.urandom(leaves.NONCE_BYTES * len(events))
        rows, payloads = [], []
        for place, event in enumerate(events):
            nonce = nonces[place * leaves.NONCE_BYTES : (place + 1) * leaves.NONCE_BYTES]
            payload = _payload(event)
            micros = leaves.micros(event.time)
            leaf = leaves.encode(
                commitment=leaves.commitment(nonce, payload),
                id=event.id,
                kind=event.kind,
                micros=micros,
                not_sent=leaves.is_not_sent(event.kind, event.verdict),
            )
            digest = leaf_hash(leaf)
            self._tree.append(digest)
            self._tiler.add(digest)
            rows.append(
                (
                    index + place,
                    event.id,
                    event.kind,
                    leaves.seconds(micros),
                    event.task,
                    event.agent,
                    event.action,
                    event.server,
                    event.tool,
                    event.verdict,
                    event.ticket,
                    leaf,
                    digest,
                )
            )
            payloads.append((index + place, nonce, payload))
        connection.executemany("INSERT INTO leaves VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        connection.executemany("INSERT INTO payloads VALUES (?,?,?)", payloads)

    def due(self, now: float) -> bool:
        """Whether leaves have waited a second for a signature; they wait no longer for a clock that went back."""
        if self._tree.size == self._signed_size:
            return False
        return self._signed_at is None or not 0 <= now - self._signed_at < CHECKPOINT_EVERY_S

    def checkpoint(self, connection: sqlite3.Connection, now: float) -> None:
        """Sign the tree as it stands in this transaction, and write the tiles that have filled."""
        size = self._tree.size
        if size == self._signed_size:
            return
        note = Checkpoint(origin=self.origin, size=size, root=self._tree.root()).sign(self._signer)
        connection.execute("INSERT INTO checkpoints VALUES (?,?,?)", (size, note, self._signer.vkey))
        tiles = [(tile.level, tile.n, tile.hashes) for tile in self._tiler.take()]
        connection.executemany("INSERT INTO tiles VALUES (?,?,?)", tiles)
        self._signed_size, self._signed_at = size, now

    def committed(self) -> None:
        """What was appended is on disk."""
        self.size = self._tree.size

    def rebuild(self, connection: sqlite3.Connection) -> None:
        """Stand where the database stands: at start, and after any failure.

        Checks what the next leaf will stand on (the tiles, the leaves after them, the last checkpoint and its key), in
        bounded time; every row is checked by `audit.verify`.

        Raises:
            LogDamaged: the log is not what this key signed; names the first bad leaf.
        """
        signed = self._last_signed(connection)
        tiler = self._tiles(connection)
        tree = tiler.tree()
        tiled = tree.size
        holds = tiled == 0 or (signed is not None and tiled <= signed.size)
        if signed is not None and tiled == signed.size:
            holds = tree.root() == signed.root
        for index, leaf, digest in connection.execute(
            "SELECT idx, leaf, hash FROM leaves WHERE idx >= ? ORDER BY idx", (tiled,)
        ):
            holds = holds and index == tree.size and isinstance(leaf, bytes) and leaf_hash(leaf) == digest
            if not holds:
                break
            tree.append(digest)
            tiler.add(digest)
            if signed is not None and tree.size == signed.size:
                holds = tree.root() == signed.root
        if not holds or (signed is not None and tree.size < signed.size):
            raise self._damaged(connection)
        self._tree, self._tiler = tree, tiler
        self._signed_size, self._signed_at = signed.size if signed else 0, None
        self.size = tree.size

    def _last_signed(self, connection: sqlite3.Connection) -> Checkpoint | None:
        row = connection.execute("SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
        if row is None:
            return None
        size, note = row
        try:
            signed = open_checkpoint(str(note).encode(), (self._signer.verifier,))
        except NoteError as error:
            raise LogDamaged(f"the last checkpoint does not hold under {self.vkey}: {error}") from error
        if signed.origin != self.origin or signed.size != size:
            raise LogDamaged(
                f"the last checkpoint is of {signed.origin} at {signed.size}, not of {self.origin} at {size}"
            )
        return signed

    def _tiles(self, connection: sqlite3.Connection) -> Tiler:
        levels = connection.execute(
            "SELECT level, count(*), max(n) FROM tiles GROUP BY level ORDER BY level"
        ).fetchall()

        def read(level: int, n: int) -> Tile:
            row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND n = ?", (level, n)).fetchone()
            if row is None or len(row[0]) != TILE_BYTES:
                raise ValueError(f"tile {level}/{n} is not whole")
            return Tile(level, n, row[0])

        try:
            if any(level != place or last + 1 != count for place, (level, count, last) in enumerate(levels)):
                raise ValueError("tiles are missing")
            return Tiler.resume([count for _, count, _ in levels], read)
        except ValueError as error:
            raise self._damaged(connection) from error

    def _damaged(self, connection: sqlite3.Connection) -> LogDamaged:
        """The error that names what is wrong, found by looking at everything."""
        report = check(Database(connection), (self._signer.verifier,))
        what = report.problems[0].sentence if report.problems else "it is not what the last checkpoint vouches for"
        return LogDamaged(f"the audit log is damaged: {what}", leaf=report.first_bad)


def _payload(event: Event) -> bytes:
    """The bytes that a leaf commits to; kept as they are, so that nobody has to spell them again."""
    document = {
        "action": event.action,
        "agent": event.agent,
        leaves.BODY: event.payload,
        "server": event.server,
        "task": event.task,
        "ticket": event.ticket,
        "tool": event.tool,
        "verdict": event.verdict,
    }
    return _encode(document)
