"""The table of what the clinic has decided about its appointments, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from fhir_server.store.tables import metadata

scheduling_setting: Final = Table(
    "scheduling_setting",
    metadata,
    Column("name", Text(collation="C"), primary_key=True),
    Column("value", JSONB, nullable=False),
)
"""Decisions by name, where they are not the defaults. See `policies`."""

__all__ = ["scheduling_setting"]
