"""People in a queue are told that they are called, and that it is nearly their turn, in the transaction that calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fhir_server.clinic import messages
from fhir_server.store.database import Connection
from fhir_server.store.rules.queueing.queue import Entry, Standing

NEARLY: Final = 2
"""So many who are next are told that they are."""


def tell(connection: Connection, entry: Entry, now: datetime, waiting: Sequence[Standing] = ()) -> None:
    """Has somebody told that they are called, once for each call, and the first of those who wait, in their order, that it is nearly their turn."""
    those = []
    if entry.patient is not None:
        call = f"call {now.isoformat()}"
        those.append(messages.called(entry.encounter, entry.patient, call, now, token=str(entry.token), room=entry.room or ""))
    those += [
        messages.nearly(each.encounter, each.patient, "turn", now, token=str(each.token)) for each in waiting[:NEARLY] if each.patient is not None
    ]
    messages.announce(connection, those, now)
