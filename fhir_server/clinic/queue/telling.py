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


def tell(connection: Connection, entry: Entry, now: datetime, waiting: Sequence[Standing] = ()) -> None:
    """Has somebody told that they are called, once for each call, and the first of those who wait, in their order, that it is nearly their turn."""
    those = []
    if entry.patient is not None:
        call = f"call {now.isoformat()}"
        those.append(messages.called(entry.encounter, entry.patient, call, now, token=str(entry.token), room=entry.room or ""))
    first = [each.encounter for each in waiting[:NEARLY]]
    for encounter, patient, token in connection.execute(_WHO, (first,)).fetchall() if first else ():
        those.append(messages.nearly(encounter, patient, "turn", now, token=str(token)))
    messages.announce(connection, those, now)
