"""The tables, in SQLAlchemy Core: for migrations. Units and reads go through the driver (`ledger.py`).

Times are Unix seconds, JSON is canonical text, ids are prefixed UUIDv7.
"""

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)
"""`instance` (the audience of tokens), `policy` (revision in force)."""

tasks = Table(
    "tasks",
    metadata,
    Column("id", String, primary_key=True),
    Column("principal", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("grant", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("revoked", Integer, nullable=False),
    Column("created", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False, index=True),
    Column("agent", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("revocation", String, nullable=False, unique=True),
    Column("expires", Float),
    Column("created", Float, nullable=False),
)
"""Root tokens that were minted here. The token itself is not kept: it was shown once."""

revocations = Table(
    "revocations",
    metadata,
    Column("id", String, primary_key=True),
    Column("time", Float, nullable=False),
)
"""Revoked block ids (biscuit's revocation identifiers, hex): a revoked parent kills its children."""

budgets = Table(
    "budgets",
    metadata,
    Column("root", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("used", Integer, nullable=False),
    Column("most", Integer, nullable=False),
)
"""`calls` or `spend:EUR`, per root token. Reserved at commit, given back when provably not sent."""

marks = Table(
    "marks",
    metadata,
    Column("holder", String, primary_key=True),
    Column("label", Text, nullable=False),
)

file_labels = Table(
    "file_labels",
    metadata,
    Column("path", String, primary_key=True),
    Column("server", String, primary_key=True),
    Column("label", Text, nullable=False),
    Column("task", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("time", Float, nullable=False),
)
"""What each server has written into the operator's folders: a file that was applied, or a mount that it writes to
directly. Only rises until an operator clears it."""

results = Table(
    "results",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("action", String, nullable=False),
    Column("task", String, nullable=False, index=True),
    Column("server", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("time", Float, nullable=False),
    Column("whole", Integer, nullable=False),
    Column("proves", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What each result said, for proofs and for the person's card.

`whole` is 0 where a cap cut it; `proves` is 0 where it proved nothing when it came, and then it never does. The body
is last, so that what stands before it is read without it."""

calls = Table(
    "calls",
    metadata,
    Column("action", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("root", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("server", String, nullable=False),
    Column("tool", String, nullable=False),
    Column("authority", String, nullable=False),
    Column("state", String, nullable=False),
    Column("guarded", Integer, nullable=False),
    Column("reserved", Text, nullable=False),
    Column("time", Float, nullable=False),
    Index("calls_open", "authority", sqlite_where=text("state IN ('executing', 'unknown')")),
    sqlite_with_rowid=False,
)
"""One row per intent. `state`: executing, ok, error, not_sent, unknown, settled_ok, settled_failed.
`authority` is an HMAC over (root, server, tool, authority arguments): equal calls find each other by it."""

definitions = Table(
    "definitions",
    metadata,
    Column("server", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("pin", String, nullable=False),
    Column("offered_digest", String),
    Column("offered_body", Text),
    Column("time", Float, nullable=False),
)
"""What was pinned, and beside it what the server offers now when that differs.

The server's instructions are the row whose name is empty."""

tickets = Table(
    "tickets",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False, index=True),
    Column("call_digest", String, nullable=False),
    Column("authority", String, nullable=False, index=True),
    Column("state", String, nullable=False, index=True),
    Column("card", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("scope", String, nullable=False),
    Column("by", String, nullable=False),
    Column("comment", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("decided", Float),
    Index("one_pending_per_call", "call_digest", unique=True, sqlite_where=Column("state") == "pending"),
)
"""`state`: pending, approved, denied, expired, consumed. `card` is what the person was shown."""

endorsements = Table(
    "endorsements",
    metadata,
    Column("task", String, primary_key=True),
    Column("tool", String, primary_key=True),
    Column("path", String, primary_key=True),
    Column("form", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("ticket", String, nullable=False),
)
"""Values a person approved for a whole task; a flow is a row whose path is `flow` and whose value is the class."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("touched", Float, nullable=False),
)
"""Legacy MCP sessions, so that a restarted gateway still knows them; `owner` is `holder|task|root|route`."""
