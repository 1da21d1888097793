"""The tables of who is told of changes: consumers within the server, and those who have written a Subscription. See `outbox`, `subscribers`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.search.tables import metadata

from .columns import count, moment, serial, string

outbox_listener: Final = Table(
    "outbox_listener",
    metadata,
    string("consumer", primary_key=True),
    string("type", primary_key=True),
)
"""Which consumer hears of changes of which resource type."""

outbox: Final = Table(
    "outbox",
    metadata,
    serial(),
    string("consumer"),
    string("type"),
    string("resource"),
    Column("version", Integer, nullable=False),
    string("kind"),
    moment("at"),
    Column("actor", Text, nullable=False),
    Column("client", Text),
    Index("outbox_consumer", "consumer", "id"),
)
"""Changes that a consumer has still to hear of, written by the transactions that made them. See `outbox`."""

subscription: Final = Table(
    "subscription",
    metadata,
    string("id", primary_key=True),
    # Who has written it last, as JSON: what it tells of is what is open to them.
    string("holder"),
    string("state"),
    # What its criteria are about, once they are known to be right.
    string("type", nullable=True),
    # What its notifications are signed with, sealed.
    Column("secret", BYTEA),
    # Tries in a row that came to nothing, why the last did, and when the next one is.
    count("failures"),
    string("fault", nullable=True),
    moment("due", nullable=True),
    # When it is to be turned off.
    moment("ends", nullable=True),
    CheckConstraint("state IN ('new', 'active', 'error', 'off')", name="subscription_state"),
    Index("subscription_type", "type", postgresql_where=text("state = 'active'")),
)
"""What the server keeps of each Subscription besides the resource."""

subscription_delivery: Final = Table(
    "subscription_delivery",
    metadata,
    serial(),
    string("subscription", ForeignKey("subscription.id", ondelete="CASCADE")),
    string("type"),
    string("resource"),
    Column("version", Integer, nullable=False),
    string("state"),
    count("attempts"),
    moment("created"),
    moment("ended", nullable=True),
    string("fault", nullable=True),
    CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="subscription_delivery_state"),
    UniqueConstraint("subscription", "type", "resource", "version"),
    Index("subscription_delivery_waiting", "subscription", "id", postgresql_where=text("state = 'waiting'")),
    Index("subscription_delivery_ended", "ended", postgresql_where=text("ended IS NOT NULL")),
)
"""Notifications, in the order in which each subscriber gets them, and for a while those that it has taken."""
