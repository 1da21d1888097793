"""The record and its search rows"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("resource_rid", increment=64)))
    op.execute(sa.schema.CreateSequence(sa.Sequence("transaction_txn", increment=64)))
    op.create_table("once", sa.Column("key", postgresql.BYTEA(), nullable=False), sa.PrimaryKeyConstraint("key"))
    op.create_table(
        "resource",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("vid", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rid"),
        sa.UniqueConstraint("type", "id"),
    )
    op.create_index("resource_newest", "resource", ["type", "rid"], unique=False, postgresql_where=sa.text("NOT deleted"))
    op.create_index("resource_updated", "resource", ["type", "updated", "rid"], unique=False, postgresql_where=sa.text("NOT deleted"))
    op.create_table(
        "resource_type",
        sa.Column("tid", sa.SmallInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("tid"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "resource_version",
        sa.Column("vid", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("method", sa.Text(collation="C"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("txn", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("vid"),
    )
    op.create_index("resource_version_at", "resource_version", ["at"], unique=False, postgresql_using="brin")
    op.create_index("resource_version_instance", "resource_version", ["rid", "version"], unique=True)
    op.create_index("resource_version_type", "resource_version", ["type", "vid"], unique=False)
    op.create_table(
        "search_param",
        sa.Column("pid", sa.SmallInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("type", sa.Text(collation="C"), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("url", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("pid"),
    )
    op.create_index("search_param_type_code", "search_param", ["type", "code"], unique=True)
    op.create_table(
        "sp_date",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("lo", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("hi", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Boolean(), nullable=False),
        sa.Column("high", sa.Boolean(), nullable=False),
    )
    op.create_index("sp_date_hi", "sp_date", ["pid", "hi", "rid"], unique=False, postgresql_include=["lo"])
    op.create_index("sp_date_lo", "sp_date", ["pid", "lo", "rid"], unique=False, postgresql_include=["hi"])
    op.create_index("sp_date_rid", "sp_date", ["rid", "pid"], unique=False)
    op.create_table(
        "sp_number",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("lo", sa.Numeric(), nullable=False),
        sa.Column("hi", sa.Numeric(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Boolean(), nullable=False),
        sa.Column("high", sa.Boolean(), nullable=False),
    )
    op.create_index("sp_number_hi", "sp_number", ["pid", "hi", "rid"], unique=False, postgresql_include=["lo"])
    op.create_index("sp_number_lo", "sp_number", ["pid", "lo", "rid"], unique=False, postgresql_include=["hi"])
    op.create_index("sp_number_rid", "sp_number", ["rid", "pid"], unique=False)
    op.create_table(
        "sp_quantity",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("lo", sa.Numeric(), nullable=False),
        sa.Column("hi", sa.Numeric(), nullable=False),
        sa.Column("system", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("unit", sa.Text(collation="C"), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Boolean(), nullable=False),
        sa.Column("high", sa.Boolean(), nullable=False),
    )
    op.create_index("sp_quantity_hi", "sp_quantity", ["pid", "hi", "rid"], unique=False, postgresql_include=["lo"])
    op.create_index("sp_quantity_lo", "sp_quantity", ["pid", "lo", "rid"], unique=False, postgresql_include=["hi"])
    op.create_index("sp_quantity_rid", "sp_quantity", ["rid", "pid"], unique=False)
    op.create_table(
        "sp_reference",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("clinical", sa.TIMESTAMP(timezone=True), nullable=True),
    )
    op.create_index(
        "sp_reference_clinical",
        "sp_reference",
        ["pid", "id", "type", "clinical", "rid"],
        unique=False,
        postgresql_where=sa.text("clinical IS NOT NULL"),
    )
    op.create_index("sp_reference_id", "sp_reference", ["pid", "id", "type", "rid"], unique=False)
    op.create_table(
        "sp_string",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("folded", sa.Text(collation="C"), nullable=False),
        sa.Column("value", sa.Text(collation="C"), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Boolean(), nullable=False),
        sa.Column("high", sa.Boolean(), nullable=False),
    )
    op.create_index("sp_string_folded", "sp_string", ["pid", "folded", "rid"], unique=False)
    op.create_index("sp_string_rid", "sp_string", ["rid", "pid"], unique=False)
    op.create_table(
        "sp_token",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("system", sa.Integer(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index("sp_token_code", "sp_token", ["pid", "code", "rid"], unique=False, postgresql_include=["system"])
    op.create_table(
        "sp_uri",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Text(collation="C"), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index("sp_uri_value", "sp_uri", ["pid", "value", "rid"], unique=False)
    op.create_table(
        "token_system",
        sa.Column("sid", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("url", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("sid"),
        sa.UniqueConstraint("url"),
    )
    op.create_table(
        "transaction",
        sa.Column("txn", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("txn"),
    )
