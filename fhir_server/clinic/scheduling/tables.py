"""The tables of what the clinic has decided about its appointments, and of what it has offered, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import moment, string

scheduling_setting: Final = Table(
    "scheduling_setting",
    metadata,
    string("name", primary_key=True),
    Column("value", JSONB, nullable=False),
)
"""Decisions by name, where they are not the defaults. See `policies`."""

waiting_offer: Final = Table(
    "waiting_offer",
    metadata,
    # The id of the Appointment on the list.
    string("appointment", primary_key=True),
    string("schedule", primary_key=True),
    moment("start", primary_key=True),
    moment("expires"),
)
"""Which times were offered to whom, and until when: nobody is offered the same one twice. See `waiting`."""

__all__ = ["scheduling_setting", "waiting_offer"]
