"""What is kept about the search tables, which are declared where they are searched, in `search`; and about their making anew."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from fhir_server.search.tables import metadata

index_settings: Final = Table(
    "index_settings",
    metadata,
    # One row at the most; none says that nobody knows how the index rows were made.
    Column("single", Boolean, CheckConstraint("single", name="index_settings_single"), primary_key=True, server_default=text("true")),
    Column("fingerprint", Text, nullable=False),
    Column("addresses", ARRAY(Text), nullable=False),
)
"""What the index rows were made under; see `rebuild`."""

search_generation: Final = Table(
    "search_generation",
    metadata,
    # One row, made by the migration.
    Column("single", Boolean, CheckConstraint("single", name="search_generation_single"), primary_key=True, server_default=text("true")),
    Column("generation", Integer, nullable=False),
    Column("listening", Integer, nullable=False, server_default=text("0")),
)
"""Goes up with every change of the set of search parameters; whoever writes with an older set writes nothing. See `parameters`.

So does `listening` with every change of which types are listened to. See `outbox`.
"""

reindex_job: Final = Table(
    "reindex_job",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    # What is indexed anew: all of it, one type, one parameter, or one parameter of one type.
    Column("type", Text(collation="C")),
    Column("code", Text(collation="C")),
    Column("state", Text(collation="C"), nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger),
    Column("actor", Text(collation="C"), nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("started", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("fault", Text),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="reindex_job_state"),
    Index("reindex_job_created", "created", "id"),
    Index("reindex_job_open", "created", postgresql_where=text("state IN ('waiting', 'running')")),
)
"""Reindexing that was asked for from outside; see `jobs`."""
