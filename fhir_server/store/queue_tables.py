"""The tables of the queue, beside the Encounters of those who stand in it. See `queue`."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Date, DateTime, Identity, Index, Integer, Table, Text, text

from fhir_server.search.tables import metadata


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable, primary_key=primary_key)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


queue_entry: Final = Table(
    "queue_entry",
    metadata,
    # Ids: of the Encounter, and of the Location whose queue it is in now.
    _text("encounter", primary_key=True),
    _text("location"),
    _text("patient", nullable=True),
    _text("appointment", nullable=True),
    Column("day", Date, nullable=False),
    Column("token", Integer, nullable=False),
    _text("zone"),
    _moment("assigned"),
    # From when on waiting counts, which no change of zone or place moves.
    _moment("credit"),
    _moment("arrived"),
    _text("state"),
    _moment("changed"),
    _moment("called", nullable=True),
    _moment("started", nullable=True),
    _moment("ended", nullable=True),
    _text("ending", nullable=True),
    _text("room", nullable=True),
    _text("practitioner", nullable=True),
    Column("recalls", Integer, nullable=False),
    _moment("skipped", nullable=True),
    _moment("alerted", nullable=True),
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
    Column("id", BigInteger, Identity(), primary_key=True),
    _text("encounter"),
    _text("location"),
    _moment("at"),
    _text("event"),
    _text("zone"),
    _text("state"),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    # What undoing it brings back, as JSON; none where it cannot be undone.
    Column("before", Text),
    Column("undone", Boolean, nullable=False, server_default=text("false")),
    Index("queue_event_encounter", "encounter", "id"),
)
"""What has happened to them, appended; zone and state are those from then on."""

queue_counter: Final = Table(
    "queue_counter",
    metadata,
    _text("location", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("last", Integer, nullable=False),
)
"""The last token of each queue and day of the clinic's calendar."""

queue_setting: Final = Table(
    "queue_setting",
    metadata,
    _text("location", primary_key=True),
    _text("zone", primary_key=True),
    # Minutes.
    Column("target", Integer, nullable=False),
    Column("maximum", Integer, nullable=False),
)
"""What a place has instead of the usual minutes."""
