"""The tables by which nothing is billed or claimed twice. See `rules.billing`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY

from fhir_server.search.tables import metadata

billed: Final = Table(
    "billed",
    metadata,
    Column("charge", Text(collation="C"), primary_key=True),
    Column("rid", BigInteger, nullable=False),
    Index("billed_rid", "rid"),
)
"""Which invoice each ChargeItem, by id, is on: no more than one. See `bills`."""

billing_template: Final = Table(
    "billing_template",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text(collation="C"), nullable=False),
    Column("url", Text(collation="C"), nullable=False),
    Column("version", Text(collation="C"), nullable=False),
    Column("active", Boolean, nullable=False),
    # What makes the server apply it, and the templates that it is a part of.
    Column("events", ARRAY(Text(collation="C")), nullable=False),
    Column("whole", ARRAY(Text(collation="C")), nullable=False),
    UniqueConstraint("url", "version"),
)
"""The ChargeItemDefinitions that are active, or were. See `bills`."""

claimed: Final = Table(
    "claimed",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("claim", Text(collation="C"), nullable=False, unique=True),
    Column("invoice", Text(collation="C"), nullable=False),
    Column("coverage", Text(collation="C"), nullable=False),
    # Whether the payer has said all it has to say.
    Column("answered", Boolean, nullable=False),
    UniqueConstraint("invoice", "coverage"),
)
"""The Claims of invoices that are not cancelled, all by id: one for each invoice and coverage. See `insurance`."""
