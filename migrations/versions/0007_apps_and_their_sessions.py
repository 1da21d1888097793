"""Apps, and what they have been let in to"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text(collation="C")), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, postgresql.BYTEA(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "client",
        _text("id"),
        _text("name"),
        _text("auth_method"),
        _bytes("secret", nullable=True),
        _texts("redirect_uris"),
        _texts("origins"),
        _text("launch_uri", nullable=True),
        _texts("grant_types"),
        _text("scope"),
        _text("jwks", nullable=True),
        _text("jwks_uri", nullable=True),
        _moment("created"),
        _text("created_by"),
        _moment("disabled", nullable=True),
        sa.CheckConstraint("auth_method IN ('none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt')", name="client_auth_method"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("client_origins", "client", ["origins"], postgresql_using="gin")
    op.alter_column("session", "account", nullable=True)
    for name in ("client", "scope", "patient", "encounter", "parent"):
        op.add_column("session", _text(name, nullable=True))
    op.create_foreign_key(None, "session", "client", ["client"], ["id"])
    op.create_foreign_key(None, "session", "session", ["parent"], ["id"], ondelete="CASCADE")
    op.create_index("session_client", "session", ["client", "created"])
    op.create_index("session_parent", "session", ["parent"])
    op.create_table(
        "app_request",
        _text("id"),
        _text("client"),
        _text("account"),
        _text("browser"),
        _text("redirect_uri"),
        _text("scope"),
        _text("state", nullable=True),
        _text("nonce", nullable=True),
        _text("challenge"),
        _text("patient", nullable=True),
        _text("encounter", nullable=True),
        _text("address"),
        _moment("expires"),
        _text("granted", nullable=True),
        _bytes("code", nullable=True),
        _text("session", nullable=True),
        sa.ForeignKeyConstraint(["client"], ["client.id"]),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.ForeignKeyConstraint(["browser"], ["session.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code"),
    )
    op.create_index("app_request_browser", "app_request", ["browser"])
    op.create_index("app_request_expires", "app_request", ["expires"])
    op.create_table(
        "app_consent",
        _text("account"),
        _text("client"),
        _text("scope"),
        _moment("given"),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.ForeignKeyConstraint(["client"], ["client.id"]),
        sa.PrimaryKeyConstraint("account", "client"),
    )
    op.create_table(
        "launch",
        _bytes("hash"),
        _text("client", nullable=True),
        _text("account"),
        _text("patient"),
        _text("encounter", nullable=True),
        _moment("expires"),
        sa.ForeignKeyConstraint(["client"], ["client.id"]),
        sa.ForeignKeyConstraint(["account"], ["account.id"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("launch_expires", "launch", ["expires"])
    op.create_table("signing_key", _text("id"), _bytes("private"), _text("public"), _moment("created"), sa.PrimaryKeyConstraint("id"))
    op.create_table("assertion_use", _bytes("hash"), _moment("expires"), sa.PrimaryKeyConstraint("hash"))
    op.create_index("assertion_use_expires", "assertion_use", ["expires"])
    op.create_table("initial_token", _bytes("hash"), _text("created_by"), _moment("expires"), sa.PrimaryKeyConstraint("hash"))
    op.create_table("policy", _text("name"), _text("value"), sa.PrimaryKeyConstraint("name"))
