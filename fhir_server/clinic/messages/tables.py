"""The tables of messages and of the texts they are made of, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, UniqueConstraint, text

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import count, moment, serial, string

message_template: Final = Table(
    "message_template",
    metadata,
    serial(),
    string("event"),
    string("channel"),
    string("language"),
    Column("version", Integer, nullable=False),
    string("state"),
    # Of a mail.
    string("subject", nullable=True),
    string("text"),
    moment("created"),
    string("created_by"),
    moment("activated", nullable=True),
    moment("retired", nullable=True),
    CheckConstraint("state IN ('draft', 'active', 'retired')", name="message_template_state"),
    UniqueConstraint("event", "channel", "language", "version"),
    Index("message_template_active", "event", "channel", "language", unique=True, postgresql_where=text("state = 'active'")),
)
"""Texts that administrators have written; where none is active, that of the program counts."""

message: Final = Table(
    "message",
    metadata,
    serial(),
    string("event"),
    # The resource that has changed, as Appointment/12; what there is one message about, mostly the same; and which of several times.
    string("focus"),
    string("about"),
    string("occurrence"),
    string("channel"),
    string("patient"),
    string("state"),
    # Why it was not sent, as a word of `states`.
    string("reason", nullable=True),
    moment("due"),
    # After this it is of no use.
    moment("expires", nullable=True),
    # The time of the appointment that it tells of.
    moment("start", nullable=True),
    # Values for the text that the resource does not have, as JSON.
    string("details", nullable=True),
    count("attempts"),
    moment("created"),
    moment("claimed", nullable=True),
    moment("ended", nullable=True),
    string("fault", nullable=True),
    # The subject, or the SMS, that was sent.
    string("told", nullable=True),
    # What the record has of it: ids of its CommunicationRequest and its Communication, and the state that they show.
    string("request", nullable=True),
    string("communication", nullable=True),
    string("recorded", nullable=True),
    CheckConstraint(
        "state IN ('planned', 'sending', 'sent', 'dead', 'suppressed', 'revoked', 'expired')",
        name="message_state",
    ),
    UniqueConstraint("event", "about", "occurrence", "channel", "patient", name="message_once"),
    Index("message_due", "due", "id", postgresql_where=text("state = 'planned'")),
    Index("message_focus", "focus", postgresql_where=text("state = 'planned'")),
    Index("message_patient", "patient", "id"),
    Index("message_sending", "id", postgresql_where=text("state = 'sending'")),
    Index("message_dead", "id", postgresql_where=text("state = 'dead'")),
    Index("message_unrecorded", "id", postgresql_where=text("recorded IS DISTINCT FROM state AND state <> 'sending'")),
    Index("message_ended", "ended", postgresql_where=text("ended IS NOT NULL")),
)
"""Messages to people: planned, on their way, sent, or not sent and why. The unique key sees to it that none is planned twice."""
