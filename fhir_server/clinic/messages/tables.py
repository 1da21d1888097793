"""The tables of messages and of the texts they are made of, in the MetaData that the migrations must equal."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import TIMESTAMP, BigInteger, CheckConstraint, Column, Identity, Index, Integer, Table, Text, UniqueConstraint, text

from fhir_server.store.tables import metadata


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


message_template: Final = Table(
    "message_template",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _text("event"),
    _text("channel"),
    _text("language"),
    Column("version", Integer, nullable=False),
    _text("state"),
    # Of a mail.
    _text("subject", nullable=True),
    _text("text"),
    _moment("created", nullable=False),
    _text("created_by"),
    _moment("activated"),
    _moment("retired"),
    CheckConstraint("state IN ('draft', 'active', 'retired')", name="message_template_state"),
    UniqueConstraint("event", "channel", "language", "version"),
    Index("message_template_active", "event", "channel", "language", unique=True, postgresql_where=text("state = 'active'")),
)
"""Texts that administrators have written; where none is active, that of the program counts."""

message: Final = Table(
    "message",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _text("event"),
    # The resource that has changed, as Appointment/12; what there is one message about, mostly the same; and which of several times.
    _text("focus"),
    _text("about"),
    _text("occurrence"),
    _text("channel"),
    _text("patient"),
    _text("state"),
    # Why it was not sent, as a word of `states`.
    _text("reason", nullable=True),
    _moment("due", nullable=False),
    # After this it is of no use.
    _moment("expires"),
    # The time of the appointment that it tells of.
    _moment("start"),
    # Values for the text that the resource does not have, as JSON.
    _text("details", nullable=True),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _moment("created", nullable=False),
    _moment("claimed"),
    _moment("ended"),
    _text("fault", nullable=True),
    # The subject, or the SMS, that was sent.
    _text("told", nullable=True),
    # What the record has of it: ids of its CommunicationRequest and its Communication, and the state that they show.
    _text("request", nullable=True),
    _text("communication", nullable=True),
    _text("recorded", nullable=True),
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
