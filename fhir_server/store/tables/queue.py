"""The tables of the queue, beside the Encounters of those who stand in it. See `queue`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, Date, Index, Integer, Table, Text, text

from fhir_server.search.tables import metadata

from .columns import flag, moment, serial, string

queue_entry: Final = Table(
    "queue_entry",
    metadata,
    # Ids: of the Encounter, and of the Location whose queue it is in now.
    string("encounter", primary_key=True),
    string("location"),
    string("patient", nullable=True),
    string("appointment", nullable=True),
    Column("day", Date, nullable=False),
    Column("token", Integer, nullable=False),
    string("zone"),
    moment("assigned"),
    # From when on waiting counts, which no change of zone or place moves.
    moment("credit"),
    moment("arrived"),
    string("state"),
    moment("changed"),
    moment("called", nullable=True),
    moment("started", nullable=True),
    moment("ended", nullable=True),
    string("ending", nullable=True),
    string("room", nullable=True),
    string("practitioner", nullable=True),
    Column("recalls", Integer, nullable=False),
    moment("skipped", nullable=True),
    moment("alerted", nullable=True),
    CheckConstraint("state IN ('waiting', 'called', 'in-service', 'paused', 'ended')", name="queue_entry_state"),
    Index("queue_entry_open", "location", postgresql_where=text("state <> 'ended'")),
    Index("queue_entry_waiting", "location", "zone", "credit", "token", postgresql_where=text("state = 'waiting'")),
    Index("queue_entry_patient", "patient", postgresql_where=text("state <> 'ended'")),
    Index("queue_entry_arrived", "location", "arrived"),
)
"""Who stands in which queue, or has stood in it."""

queue_event: Final = Table(
    "queue_event",
    metadata,
    serial(),
    string("encounter"),
    string("location"),
    moment("at"),
    string("event"),
    string("zone"),
    string("state"),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    # What undoing it brings back, as JSON; none where it cannot be undone.
    Column("before", Text),
    flag("undone"),
    Index("queue_event_encounter", "encounter", "id"),
)
"""What has happened to them, appended; zone and state are those from then on."""

queue_counter: Final = Table(
    "queue_counter",
    metadata,
    string("location", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("last", Integer, nullable=False),
)
"""The last token of each queue and day of the clinic's calendar."""

queue_setting: Final = Table(
    "queue_setting",
    metadata,
    string("location", primary_key=True),
    string("zone", primary_key=True),
    # Minutes.
    Column("target", Integer, nullable=False),
    Column("maximum", Integer, nullable=False),
)
"""What a place has instead of the usual minutes."""
