"""Opens the demo clinic: once what was before, and on each day that it is started on, that day."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.clinic.scheduling import publishing
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Put
from fhir_server.store.outbox import listen

from .bills import TEMPLATE, bill
from .history import allergies, persons, resources, visits
from .people import covers, people
from .places import places
from .today import Today

_CHUNK: Final = 400
_VERSION: Final = 4
"""Goes up when the demo clinic has something else in it."""


def open_clinic(store: Store) -> None:
    """Writes what is not there yet. Takes some seconds the first time, nothing later on the same day. Raises Outcome as the store."""
    zone = store.registry.zone
    today = store.clock().astimezone(zone).date()
    patients = people(today)
    everybody = persons(patients)
    covered = list(covers(patients))
    before = list(visits(everybody, today, zone))
    history = [resource for visit in before for resource in resources(visit)]
    with store.database.connection() as connection, connection.transaction():
        # So that Slots are made of the doctors' hours as soon as a worker runs.
        listen(connection, publishing.CONSUMER, publishing.TYPES)
    _write(store, "the clinic", [*places(), TEMPLATE, *patients, *covered, *allergies(everybody), *history])
    if not store.transact([], SYSTEM, once=f"demo {_VERSION} bills".encode()).repeated:
        bill(store, before, {each["beneficiary"]["reference"] for each in covered})
    day = Today(everybody, store.clock(), zone)
    _write(store, f"the day {today}", list(day.resources()))
    if not store.transact([], SYSTEM, once=f"demo {_VERSION} the queue of {today}".encode()).repeated:
        day.fill(store)


def _write(store: Store, what: str, made: list[dict[str, Any]]) -> None:
    for first in range(0, len(made), _CHUNK):
        ops = [Put(resource, resource["id"]) for resource in made[first : first + _CHUNK]]
        store.transact(ops, SYSTEM, once=f"demo {_VERSION} {what} {first}".encode())
