"""The tables of what Consents say. See `consents`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Index, Integer, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from fhir_server.search.tables import metadata

consent_rule: Final = Table(
    "consent_rule",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)
"""The current Consents that forbid something: few, so that whoever looks for them need not read all."""

consent_generation: Final = Table(
    "consent_generation",
    metadata,
    # One row, made by the migration.
    Column("single", Boolean, CheckConstraint("single", name="consent_generation_single"), primary_key=True, server_default=text("true")),
    Column("generation", Integer, nullable=False),
)
"""Goes up with every change of what is forbidden, of who works where, or of the policy."""

consent_permit: Final = Table(
    "consent_permit",
    metadata,
    # The Consent's.
    Column("rid", BigInteger, nullable=False),
    Column("patient", Text(collation="C"), nullable=False),
    # Whoever is all of these, for one of these, to resources of one of these types; an empty list narrows nothing.
    Column("parties", ARRAY(Text(collation="C")), nullable=False),
    Column("purposes", ARRAY(Text(collation="C")), nullable=False),
    Column("types", ARRAY(SmallInteger), nullable=False),
    # Half open.
    Column("lo", DateTime(timezone=True), nullable=False),
    Column("hi", DateTime(timezone=True), nullable=False),
    Index("consent_permit_patient", "patient"),
    Index("consent_permit_rid", "rid"),
)
"""What current Consents permit; asked by each statement for which it counts. See `search.permit`."""
