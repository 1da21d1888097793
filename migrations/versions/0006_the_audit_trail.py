"""The audit trail"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def _text(name: str, *, nullable: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text(collation="C")), nullable=False)


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("xid", sa.BigInteger(), server_default=sa.text("pg_current_xact_id()::text::bigint"), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("recorded", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("received", sa.TIMESTAMP(timezone=True), nullable=True),
        _text("kind", nullable=False),
        _text("action", nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        _text("actor", nullable=False),
        _text("account"),
        _text("fhir_user"),
        _texts("roles"),
        _text("client"),
        _text("session"),
        _text("purpose"),
        _text("address"),
        _text("request_id"),
        _text("type"),
        _text("resource"),
        sa.Column("version", sa.Integer(), nullable=True),
        _texts("patients"),
        _text("query"),
        _text("detail"),
        sa.Column("body", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_event_recorded", "audit_event", ["recorded", "id"])
    op.create_index("audit_event_actor", "audit_event", ["actor", "id"])
    op.create_index("audit_event_fhir_user", "audit_event", ["fhir_user", "id"], postgresql_where=sa.text("fhir_user IS NOT NULL"))
    op.create_index("audit_event_resource", "audit_event", ["type", "resource", "id"], postgresql_where=sa.text("resource IS NOT NULL"))
    op.create_index("audit_event_received", "audit_event", ["id"], postgresql_where=sa.text("received IS NOT NULL"))
    op.create_index("audit_event_patients", "audit_event", ["patients"], postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512})
    op.create_table(
        "audit_chain",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("hash", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("event"),
    )
    op.execute(
        "CREATE FUNCTION audit_is_appended_to() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in ("audit_event", "audit_chain"):
        op.execute(
            f"CREATE TRIGGER {table}_is_appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_appended_to()"
        )
        # Holds for a superuser too, and for sessions that replicate.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_is_appended_to")
        op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM CURRENT_USER")
