"""The corridor's tables and the audit log's. Frozen as it was written: `schema.py` may move on, this may not."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("root", "name"),
    )
    op.create_table(
        "calls",
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("guarded", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("action"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "calls_open",
        "calls",
        ["authority"],
        unique=False,
        sqlite_where=sa.text("state IN ('executing', 'unknown')"),
    )
    op.create_table(
        "definitions",
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("pin", sa.String(), nullable=False),
        sa.Column("offered_digest", sa.String(), nullable=True),
        sa.Column("offered_body", sa.Text(), nullable=True),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("server", "name"),
    )
    op.create_table(
        "endorsements",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("ticket", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "tool", "path", "form", "value"),
    )
    op.create_table(
        "file_labels",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("path", "server"),
    )
    op.create_table(
        "marks",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("holder"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "results",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("whole", sa.Integer(), nullable=False),
        sa.Column("proves", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(op.f("ix_results_task"), "results", ["task"], unique=False)
    op.create_table(
        "revocations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("touched", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("grant", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revoked", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("call_digest", sa.String(), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("decided", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_tickets_authority"), "tickets", ["authority"], unique=False)
    op.create_index(op.f("ix_tickets_state"), "tickets", ["state"], unique=False)
    op.create_index(op.f("ix_tickets_task"), "tickets", ["task"], unique=False)
    op.create_index(
        "one_pending_per_call", "tickets", ["call_digest"], unique=True, sqlite_where=sa.text("state = 'pending'")
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("revocation", sa.String(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("revocation"),
    )
    op.create_index(op.f("ix_tokens_task"), "tokens", ["task"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "leaves",
        sa.Column("idx", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("ticket", sa.String(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("idx"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("leaves_by_action", "leaves", ["action"], unique=False, sqlite_where=sa.text("action <> ''"))
    op.create_index("leaves_by_task", "leaves", ["task"], unique=False)
    op.create_index("leaves_by_ticket", "leaves", ["ticket"], unique=False, sqlite_where=sa.text("ticket <> ''"))
    op.create_table(
        "payloads",
        sa.Column("idx", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("idx"),
    )
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "n"),
    )
