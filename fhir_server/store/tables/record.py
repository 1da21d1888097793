"""The tables of the record: appended versions, a narrow pointer to the current one, transactions."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Index, Integer, Sequence, SmallInteger, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.search.tables import metadata

BLOCK: Final = 64
resource_rid: Final = Sequence("resource_rid", increment=BLOCK, metadata=metadata)
"""Resource numbers are taken in blocks by each process, so that index rows can be made before the row they point to."""
transaction_txn: Final = Sequence("transaction_txn", increment=BLOCK, metadata=metadata)

resource: Final = Table(
    "resource",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("type", SmallInteger, nullable=False),
    Column("id", Text(collation="C"), nullable=False),
    Column("vid", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("updated", DateTime(timezone=True), nullable=False),
    UniqueConstraint("type", "id"),
    Index("resource_newest", "type", "rid", postgresql_where=text("NOT deleted")),
    Index("resource_updated", "type", "updated", "rid", postgresql_where=text("NOT deleted")),
)

resource_version: Final = Table(
    "resource_version",
    metadata,
    Column("vid", BigInteger, Identity(), primary_key=True),
    Column("rid", BigInteger, nullable=False),
    Column("type", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("method", Text(collation="C"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("txn", BigInteger, nullable=False),
    Column("body", Text),
    # The writing transaction's, by which a page link tells what it has seen; 0 for what came from another cluster.
    Column("xid", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Index("resource_version_xid", "xid"),
    Index("resource_version_instance", "rid", "version", unique=True),
    Index("resource_version_type", "type", "vid"),
    Index("resource_version_at", "at", postgresql_using="brin"),
)

transaction: Final = Table(
    "transaction",
    metadata,
    Column("txn", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
)

once: Final = Table(
    "once",
    metadata,
    Column("key", BYTEA, primary_key=True),
)
"""Keys of work that is done once however often it is asked for: digests of loaded files, Idempotency-Keys."""
