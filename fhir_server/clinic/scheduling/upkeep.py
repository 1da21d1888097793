"""What becomes of appointments by time alone: holds that have expired are cancelled, and who has not come is a no-show.

Done again it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from fhir_server.clinic.acting import Act, carry_out, content
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Put, Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import extension, moment
from fhir_server.store.snapshot import Snapshot

from . import policies
from .booking import HOLD_EXPIRES

_AT_ONCE: Final = 500
_BY_CLOCK: Final = replace(SYSTEM, actor="scheduling")
_LATEST: Final = timedelta(days=7)
"""What began before is history from somewhere else: nobody has waited for it here."""

Change = Callable[[Resource, datetime], Resource | None]
"""An Appointment as it is to be at a moment; None where there is nothing to do."""


def expire_holds(store: Store) -> int:
    """Cancels the holds that have expired, of which the time was free before; how many."""
    with store.database.connection() as connection:
        ids = openings.pending_holds(connection, store.registry, HOLD_EXPIRES, _AT_ONCE)
    return sum(_changed(store, "cancel", identity, _expired) for identity in ids)


def note_no_shows(store: Store) -> int:
    """Makes no-shows of who is booked and has not come so long after the start as the clinic has decided; how many, 0 where it has not."""
    at = store.clock()
    with store.database.connection() as connection:
        minutes = policies.practice(connection).no_show_minutes
        if minutes is None:
            return 0
        until = at - timedelta(minutes=minutes)
        ids = openings.booked_between(connection, store.registry, until - _LATEST, until, _AT_ONCE)

    def missed(resource: Resource, at: datetime) -> Resource | None:
        start = moment(resource.get("start"))
        is_late = resource.get("status") == "booked" and start is not None and start + timedelta(minutes=minutes) <= at
        return {**resource, "status": "noshow"} if is_late else None

    return sum(_changed(store, "no-show", identity, missed) for identity in ids)


def _expired(resource: Resource, at: datetime) -> Resource | None:
    until = moment(extension(resource, HOLD_EXPIRES, "valueInstant"))
    if resource.get("status") != "pending" or until is None or until > at:
        return None
    return {**resource, "status": "cancelled", "cancelationReason": {"text": "The hold has expired"}}


def _changed(store: Store, name: str, identity: str, change: Change) -> bool:
    """Whether an Appointment was changed, in a transaction of its own: one that cannot be is no reason to leave the others."""
    done: list[bool] = []

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        openings.lock(connection, store.registry.types["Appointment"], identity)
        found = db.read("Appointment", identity)
        resource = change(content(found), store.clock()) if found is not None and found.body is not None else None
        done[:] = [resource is not None]
        return [Put(resource, identity)] if resource is not None else []

    try:
        carry_out(store, Act(name, _BY_CLOCK), prepare)
    except Outcome as refused:
        if refused.category == "unavailable":
            raise
        return False
    return done == [True]
