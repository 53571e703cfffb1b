"""The log's tables, in SQLAlchemy Core: for migrations alone; the writer and the readers go through the driver.

Nothing here is evidence by itself. `id`, `kind` and `time` are copied from the leaf, the names that people query by
from the payload, and the verifier compares them all.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData()

_Index = BigInteger().with_variant(Integer, "sqlite")

leaves = Table(
    "leaves",
    metadata,
    Column("idx", _Index, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("time", Float, nullable=False),
    Column("task", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("action", String, nullable=False),
    Column("server", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("ticket", String, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("leaves_by_task", "task"),
    Index("leaves_by_action", "action", sqlite_where=text("action <> ''")),
    Index("leaves_by_ticket", "ticket", sqlite_where=text("ticket <> ''")),
)
"""Each index is a page more to sync with every event: agent, tool, verdict and time are found by reading.

One row per leaf, from zero, without gaps. The names are empty where the event has none, and once it is erased."""

payloads = Table(
    "payloads",
    metadata,
    Column("idx", _Index, primary_key=True, autoincrement=False),
    Column("nonce", LargeBinary),
    Column("body", LargeBinary),
)
"""What the leaf commits to; both are NULL once erased, and every proof still holds."""

tiles = Table(
    "tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("n", _Index, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
"""Full tiles of 256 hashes (https://c2sp.org/tlog-tiles), written with the checkpoint that covers them."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", _Index, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("key", Text, nullable=False),
)
"""Signed notes, and the verifier key of each."""
