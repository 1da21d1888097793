"""The tables of bulk exports. See `exports`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.search.tables import metadata

bulk_export: Final = Table(
    "bulk_export",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("actor", Text(collation="C"), nullable=False),
    # What was open to them when they asked, as JSON.
    Column("holder", Text(collation="C"), nullable=False),
    # What they asked for, as JSON.
    Column("request", Text(collation="C"), nullable=False),
    Column("state", Text(collation="C"), nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("created", DateTime(timezone=True), nullable=False),
    # The moment that the files show.
    Column("at", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("fault", Text),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="bulk_export_state"),
    Index("bulk_export_open", "created", postgresql_where=text("state IN ('waiting', 'running')")),
)
"""Bulk exports; see `exports`."""

bulk_file: Final = Table(
    "bulk_file",
    metadata,
    Column("export", Text(collation="C"), ForeignKey("bulk_export.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("type", Text(collation="C"), nullable=False),
    Column("count", BigInteger, nullable=False),
    # NDJSON, packed by zlib.
    Column("content", BYTEA, nullable=False),
    # Whether it tells which resources of the type were deleted.
    Column("deleted", Boolean, nullable=False, server_default=text("false")),
)
"""The files of bulk exports, in parts of some megabytes."""
