"""People in a queue are told that they are called, and that it is nearly their turn, in the transaction that calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fhir_server.clinic import messages
from fhir_server.store.database import Connection
from fhir_server.store.queue import Entry, Standing

NEARLY: Final = 2
"""So many who are next are told that they are."""
_WHO: Final = "SELECT encounter, patient, token FROM queue_entry WHERE encounter = ANY(%s) AND patient IS NOT NULL"


def tell_called(connection: Connection, entry: Entry, now: datetime) -> None:
    """Has somebody told that they are called, once for each call."""
    if entry.patient is not None:
        messages.called(connection, entry.encounter, entry.patient, f"call {now.isoformat()}", now, token=str(entry.token), room=entry.room or "")


def tell_next(connection: Connection, waiting: Sequence[Standing], now: datetime) -> None:
    """Has the first of those who wait, in their order, told that it is nearly their turn, each once."""
    first = [each.encounter for each in waiting[:NEARLY]]
    for encounter, patient, token in connection.execute(_WHO, (first,)).fetchall() if first else ():
        messages.nearly(connection, encounter, patient, "turn", now, token=str(token))
