"""Templates that apply themselves: a visit that ends, a test that is ordered, somebody who does not come.

What happened is heard of after its commit (`store.outbox`), from the first active template with a trigger on. The charge of an event has an id made
of the event, the template's url and what it happened to: heard of again, or seen by another worker, it is there already.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import PASSING, Act, carry_out, resource_of
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.search.params.date import parse_date
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Resource
from fhir_server.store.outbox import Change
from fhir_server.store.rules.billing.bills import CONSUMER
from fhir_server.store.rules.prescriptions import ORDERS

from . import catalogue
from .charging import Occasion, charges

__all__ = ["CONSUMER", "Charging"]

LATE: Final = timedelta(days=30)
"""What is heard of that is longer ago was loaded, not lived through, and is charged for by nobody."""
_STATUS: Final = {
    ("Encounter", "finished"): "encounter-finished",
    ("Appointment", "booked"): "appointment-booked",
    ("Appointment", "fulfilled"): "appointment-fulfilled",
    ("Appointment", "noshow"): "no-show",
    ("ServiceRequest", "active"): "order-active",
    ("ServiceRequest", "completed"): "order-completed",
}
_WHEN: Final = {"Encounter": ("period", "end"), "Appointment": ("start",), "ServiceRequest": ("authoredOn",)}

_log = logging.getLogger("fhir_server.billing")


class Charging:
    """What a worker does for billing. Safe to share between threads."""

    def __init__(self, store: Store, currency: str) -> None:
        """`currency` is that of amounts that name none."""
        self._store = store
        self._currency = currency

    def hear(self, _connection: Connection, changes: Sequence[Change]) -> set[tuple[str, str]]:
        """Charges for what happened; there are no tasks to follow. A template that has a fault is left out, and the log says so.

        Raises Outcome where others are in the way, or the database is away: then all of it is heard of again.
        """
        for change in changes:
            with self._store.latest(SYSTEM) as db:
                now = _content(db, change, change.version)
                before = _content(db, change, change.version - 1) if change.version > 1 else None
            event = event_of(now, before)
            if event is not None and now is not None and not self._is_late(now, change.at):
                self._charge(event, now, change)
        return set()

    def _charge(self, event: str, source: Resource, change: Change) -> None:
        with self._store.database.connection() as connection:
            templates = catalogue.triggered(connection, self._store.registry, event, source, change.at)
        for template in templates:
            self._apply(template, event, source, change)

    def _apply(self, template: Resource, event: str, source: Resource, change: Change) -> None:
        def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
            return self._ops(connection, db, template, event, source, change.at)

        try:
            carry_out(self._store, Act("charge", SYSTEM), prepare)
        except Outcome as outcome:
            if outcome.category in PASSING:
                raise
            told = {"template": template["id"], "event": event, "resource": f"{change.type}/{change.resource}", "fault": outcome.category}
            _log.warning("a template could not be applied", extra=told)

    def _ops(self, connection: Connection, db: Snapshot, template: Resource, event: str, source: Resource, at: datetime) -> Sequence[Op]:
        registry = self._store.registry
        kind, identity = source["resourceType"], source["id"]
        patient = next((found for name, found in registry.references(source, "patient") if name == "Patient"), None)
        if patient is None:
            return ()
        visit = source if kind == "Encounter" else None
        if kind == "ServiceRequest":
            encounters = [found for name, found in registry.references(source, "encounter") if name == "Encounter"]
            version = db.read("Encounter", encounters[0]) if encounters else None
            visit = resource_of(version)
        now = at.astimezone(registry.zone)
        occasion = Occasion(patient, visit, Decimal(1), now, self._currency, source=f"{kind}/{identity}", event=event)
        parts = catalogue.current(connection, registry, template, now)
        return charges(self._store, db, template, parts, occasion)

    def _is_late(self, source: Resource, at: datetime) -> bool:
        value: Any = source
        for name in _WHEN[source["resourceType"]]:
            value = value.get(name, {}) if isinstance(value, dict) else {}
        try:
            return isinstance(value, str) and parse_date(value, self._store.registry.zone)[1] < at - LATE
        except (ValueError, OverflowError):
            return False


def event_of(now: Resource | None, before: Resource | None) -> str | None:
    """What has happened to a resource by its last change: nothing that had happened before."""
    if now is None:
        return None
    kind = now["resourceType"]
    if kind == "ServiceRequest" and (now.get("intent") not in ORDERS or now.get("doNotPerform") is True):
        return None
    return _STATUS.get((kind, str(now.get("status")))) if before is None or before.get("status") != now.get("status") else None


def _content(db: Snapshot, change: Change, version: int) -> Resource | None:
    return resource_of(db.version(change.type, change.resource, version))
