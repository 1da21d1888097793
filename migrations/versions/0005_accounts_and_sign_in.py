"""Accounts and sign-in"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _bytes(name: str, *, nullable: bool = True) -> sa.Column[bytes]:
    return sa.Column(name, postgresql.BYTEA(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "account",
        _text("id"),
        _text("login"),
        _text("folded"),
        _text("state"),
        sa.Column("roles", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        _text("practitioner", nullable=True),
        _text("patient", nullable=True),
        _text("related_person", nullable=True),
        _bytes("email"),
        _flag("email_proved"),
        _bytes("phone"),
        _flag("phone_proved"),
        _text("password_hash"),
        _flag("password_expired"),
        _bytes("totp_secret"),
        _bytes("totp_offered"),
        _bytes("applicant"),
        _flag("demo"),
        _moment("created"),
        sa.CheckConstraint("state IN ('invited', 'active', 'locked', 'disabled')", name="account_state"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("folded"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _bytes("key", nullable=False),
        _moment("at"),
        _flag("failed"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attempt_key", "attempt", ["key", "at"])
    op.create_index("attempt_at", "attempt", ["at"])
    op.create_table(
        "challenge",
        _text("id"),
        _text("account"),
        _text("purpose"),
        _moment("expires"),
        sa.Column("tries", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        _flag("ended"),
        _bytes("code"),
        _text("method", nullable=True),
        _moment("sent", nullable=True),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("challenge_account", "challenge", ["account", "purpose"])
    op.create_index("challenge_expires", "challenge", ["expires"])
    op.create_table(
        "totp_use",
        _text("account"),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.PrimaryKeyConstraint("account", "step"),
    )
    op.create_table(
        "session",
        _text("id"),
        _text("account"),
        _moment("created"),
        _moment("last_seen"),
        _moment("idle_at"),
        _moment("expires"),
        _text("address"),
        _text("agent"),
        _moment("ended", nullable=True),
        _text("reason", nullable=True),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("session_account", "session", ["account", "created"])
    op.create_index("session_expires", "session", ["expires"])
    op.create_table(
        "refresh_token",
        _bytes("hash", nullable=False),
        _text("session"),
        _flag("used"),
        sa.ForeignKeyConstraint(["session"], ["session.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("refresh_token_session", "refresh_token", ["session"])
