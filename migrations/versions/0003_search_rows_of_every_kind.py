"""Search rows of every kind"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # The rows lack what the new columns demand; with nothing recorded of them, the next start makes them anew.
    op.execute("TRUNCATE sp_date, sp_number, sp_quantity, sp_reference, sp_string, sp_token, sp_uri")
    op.execute("DELETE FROM index_settings")
    op.create_table(
        "sp_position",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("latitude", sa.Double(), nullable=False),
        sa.Column("longitude", sa.Double(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index("sp_position_latitude", "sp_position", ["pid", "latitude", "rid"], unique=False, postgresql_include=["longitude"])
    op.create_index("sp_position_rid", "sp_position", ["rid", "pid"], unique=False)
    op.create_table(
        "sp_token_date",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_lo", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("b_hi", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index("sp_token_date_page", "sp_token_date", ["pid", "a_code", "rid"], unique=False, postgresql_include=["a_system", "b_lo", "b_hi"])
    op.create_index("sp_token_date_rid", "sp_token_date", ["rid", "pid"], unique=False)
    op.create_index("sp_token_date_value", "sp_token_date", ["pid", "a_code", "b_lo", "rid"], unique=False, postgresql_include=["a_system", "b_hi"])
    op.create_table(
        "sp_token_number_number",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_lo", sa.Numeric(), nullable=False),
        sa.Column("b_hi", sa.Numeric(), nullable=False),
        sa.Column("c_lo", sa.Numeric(), nullable=False),
        sa.Column("c_hi", sa.Numeric(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "sp_token_number_number_page",
        "sp_token_number_number",
        ["pid", "a_code", "rid"],
        unique=False,
        postgresql_include=["a_system", "b_lo", "b_hi", "c_lo", "c_hi"],
    )
    op.create_index("sp_token_number_number_rid", "sp_token_number_number", ["rid", "pid"], unique=False)
    op.create_index(
        "sp_token_number_number_value",
        "sp_token_number_number",
        ["pid", "a_code", "b_lo", "rid"],
        unique=False,
        postgresql_include=["a_system", "b_hi"],
    )
    op.create_table(
        "sp_token_quantity",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_lo", sa.Numeric(), nullable=False),
        sa.Column("b_hi", sa.Numeric(), nullable=False),
        sa.Column("b_system", sa.Integer(), nullable=False),
        sa.Column("b_code", sa.Text(collation="C"), nullable=False),
        sa.Column("b_unit", sa.Text(collation="C"), nullable=False),
        sa.Column("b_dimension", sa.Text(collation="C"), nullable=True),
        sa.Column("b_canonical_lo", sa.Numeric(), nullable=True),
        sa.Column("b_canonical_hi", sa.Numeric(), nullable=True),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "sp_token_quantity_page",
        "sp_token_quantity",
        ["pid", "a_code", "rid"],
        unique=False,
        postgresql_include=["a_system", "b_lo", "b_hi", "b_system", "b_code", "b_unit", "b_dimension", "b_canonical_lo", "b_canonical_hi"],
    )
    op.create_index("sp_token_quantity_rid", "sp_token_quantity", ["rid", "pid"], unique=False)
    op.create_index(
        "sp_token_quantity_value",
        "sp_token_quantity",
        ["pid", "a_code", "b_lo", "rid"],
        unique=False,
        postgresql_include=["a_system", "b_hi", "b_system"],
    )
    op.create_table(
        "sp_token_reference",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_id", sa.Text(collation="C"), nullable=False),
        sa.Column("b_type", sa.SmallInteger(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "sp_token_reference_page", "sp_token_reference", ["pid", "a_code", "rid"], unique=False, postgresql_include=["a_system", "b_id", "b_type"]
    )
    op.create_index("sp_token_reference_rid", "sp_token_reference", ["rid", "pid"], unique=False)
    op.create_index("sp_token_reference_value", "sp_token_reference", ["pid", "a_code", "b_id", "rid"], unique=False, postgresql_include=["a_system"])
    op.create_table(
        "sp_token_string",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_folded", sa.Text(collation="C"), nullable=False),
        sa.Column("b_value", sa.Text(collation="C"), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "sp_token_string_page", "sp_token_string", ["pid", "a_code", "rid"], unique=False, postgresql_include=["a_system", "b_folded", "b_value"]
    )
    op.create_index("sp_token_string_rid", "sp_token_string", ["rid", "pid"], unique=False)
    op.create_index("sp_token_string_value", "sp_token_string", ["pid", "a_code", "b_folded", "rid"], unique=False, postgresql_include=["a_system"])
    op.create_table(
        "sp_token_token",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("a_code", sa.Text(collation="C"), nullable=False),
        sa.Column("a_system", sa.Integer(), nullable=False),
        sa.Column("b_code", sa.Text(collation="C"), nullable=False),
        sa.Column("b_system", sa.Integer(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "sp_token_token_page", "sp_token_token", ["pid", "a_code", "rid"], unique=False, postgresql_include=["a_system", "b_code", "b_system"]
    )
    op.create_index("sp_token_token_rid", "sp_token_token", ["rid", "pid"], unique=False)
    op.create_index(
        "sp_token_token_value", "sp_token_token", ["pid", "a_code", "b_code", "rid"], unique=False, postgresql_include=["a_system", "b_system"]
    )
    op.create_table(
        "sp_words",
        sa.Column("pid", sa.SmallInteger(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.Column("rid", sa.BigInteger(), nullable=False),
    )
    op.create_index("sp_words_rid", "sp_words", ["rid", "pid"], unique=False)
    op.create_index("sp_words_words", "sp_words", ["words"], unique=False, postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512})
    op.add_column("resource_version", sa.Column("xid", sa.BigInteger(), server_default=sa.text("pg_current_xact_id()::text::bigint"), nullable=False))
    op.create_index("resource_version_xid", "resource_version", ["xid"], unique=False)
    op.add_column("search_param", sa.Column("definition", sa.Text(), nullable=True))
    op.add_column("search_param", sa.Column("ready", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("sp_quantity", sa.Column("dimension", sa.Text(collation="C"), nullable=True))
    op.add_column("sp_quantity", sa.Column("canonical_lo", sa.Numeric(), nullable=True))
    op.add_column("sp_quantity", sa.Column("canonical_hi", sa.Numeric(), nullable=True))
    op.create_index(
        "sp_quantity_canonical_hi",
        "sp_quantity",
        ["pid", "dimension", "canonical_hi", "rid"],
        unique=False,
        postgresql_where=sa.text("dimension IS NOT NULL"),
    )
    op.create_index(
        "sp_quantity_canonical_lo",
        "sp_quantity",
        ["pid", "dimension", "canonical_lo", "rid"],
        unique=False,
        postgresql_where=sa.text("dimension IS NOT NULL"),
    )
    op.add_column("sp_reference", sa.Column("codes", postgresql.ARRAY(sa.Text(collation="C")), nullable=True))
    op.add_column("sp_reference", sa.Column("low", sa.Boolean(), nullable=False))
    op.add_column("sp_reference", sa.Column("high", sa.Boolean(), nullable=False))
    op.create_index("sp_reference_rid", "sp_reference", ["rid", "pid"], unique=False)
    op.add_column("sp_token", sa.Column("low", sa.Boolean(), nullable=False))
    op.add_column("sp_token", sa.Column("high", sa.Boolean(), nullable=False))
    op.create_index("sp_token_rid", "sp_token", ["rid", "pid"], unique=False)
    op.add_column("sp_uri", sa.Column("low", sa.Boolean(), nullable=False))
    op.add_column("sp_uri", sa.Column("high", sa.Boolean(), nullable=False))
    op.create_index("sp_uri_rid", "sp_uri", ["rid", "pid"], unique=False)
    op.drop_index("search_param_type_code", "search_param")
    op.create_index("search_param_type_code", "search_param", ["type", "code"], unique=True, postgresql_where=sa.text("ready"))
    op.drop_index("sp_reference_id", "sp_reference")
    op.create_index("sp_reference_id", "sp_reference", ["pid", "id", "type", "rid"], unique=False, postgresql_include=["codes", "clinical"])
    op.drop_index("sp_reference_clinical", "sp_reference")
    op.create_index(
        "sp_reference_clinical",
        "sp_reference",
        ["pid", "id", "type", "clinical", "rid"],
        unique=False,
        postgresql_include=["codes"],
        postgresql_where=sa.text("clinical IS NOT NULL"),
    )
