"""The tables of time: what appointments hold of it, and what Slots offer. See `rules.scheduling`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZRANGE, ExcludeConstraint

from fhir_server.search.tables import metadata

occupancy: Final = Table(
    "occupancy",
    metadata,
    # The Appointment's.
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    # Whom or what it holds, as Practitioner/7, or by URL.
    Column("actor", Text(collation="C"), primary_key=True),
    Column("lane", Integer, nullable=False),
    Column("during", TSTZRANGE, nullable=False),
    # A hold that expires holds nothing from then on, though its row may still be there.
    Column("expires", DateTime(timezone=True)),
    # There was no room for it when the row was made from what had been stored before.
    Column("clash", Boolean, nullable=False),
    ExcludeConstraint(("actor", "="), ("during", "&&"), ("lane", "="), name="occupancy_once", using="gist"),
    Index("occupancy_clash", "rid", postgresql_where=text("clash")),
)
"""What appointments hold when; no two rows of an actor overlap in one lane. See `occupancy`."""

slot_time: Final = Table(
    "slot_time",
    metadata,
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text(collation="C"), nullable=False, unique=True),
    Column("schedule", Text(collation="C"), nullable=False),
    Column("during", TSTZRANGE, nullable=False),
    Column("status", Text(collation="C"), nullable=False),
    # For how many appointments there is room that name it.
    Column("room", Integer),
    Column("services", ARRAY(Text(collation="C")), nullable=False),
    # Its status follows the appointments.
    Column("kept", Boolean, nullable=False),
    Index("slot_time_when", "schedule", "during", postgresql_using="gist"),
)
"""The Slots. See `slots`."""

schedule_time: Final = Table(
    "schedule_time",
    metadata,
    Column("id", Text(collation="C"), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("services", ARRAY(Text(collation="C")), nullable=False),
)
"""The Schedules, with what is done in them."""

schedule_actor: Final = Table(
    "schedule_actor",
    metadata,
    Column("schedule", Text(collation="C"), primary_key=True),
    # As in `occupancy`; a role is the person in it, too, and where and for what they are there.
    Column("actor", Text(collation="C"), primary_key=True),
    # For how many at a time there is room; none where it is not held.
    Column("room", Integer),
    Index("schedule_actor_whose", "actor", "schedule"),
)
"""Whose time a Schedule is about."""
