"""Visits that repeat: all of them are booked, in one transaction, or none, and whoever asks is told which cannot be had."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from fhir_server.clinic.acting import Act, carry_out
from fhir_server.outcome import Issue, Outcome
from fhir_server.search import Registry
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Resource
from fhir_server.store.snapshot import Snapshot

from .booking import Asked, new_booking
from .times import span_of, written

SERIES: Final = f"{CANON}/sid/appointment-series"
"""The system of the identifier that the visits of a series have in common."""
MOST_REPEATS: Final = 52
MOST_DAYS: Final = 366


def book_series(store: Store, act: Act, asked: Asked, repeat: int, days: int) -> Commit:
    """Books a time and those at the same local time so many `days` later, `repeat` of them in all.

    Each is an Appointment of its own. Raises Outcome as `booking.book` does, with an issue for each visit that cannot be had: nothing is booked then.
    """
    act.require("Appointment", "c")
    if asked.appointment is None:
        raise Outcome("parameter", "A series begins with an 'appointment'", code="required")
    first = asked.appointment

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        name = {"system": SERIES, "value": str(uuid.uuid4())}
        made, refused = [], []
        for number in range(repeat):
            each = first if number == 0 else _later(first, number * days, store.registry)
            try:
                resource, _ = new_booking(store, act, replace(asked, appointment=each), connection, db, before=number)
            except Outcome as outcome:
                # What is said of the caller is said once.
                if outcome.category not in {"conflict", "business-rule"}:
                    raise
                refused.append((number, outcome))
                continue
            resource["identifier"] = [*resource.get("identifier", ()), name]
            made.append(Create(resource))
        if refused:
            raise _told(refused, repeat)
        return made

    return carry_out(store, act, prepare)


def _later(first: Resource, days: int, registry: Registry) -> Resource:
    lo, hi = span_of(first)
    local = (lo.astimezone(registry.zone).replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=registry.zone)
    start = datetime.fromisoformat(written(local, registry))
    rest = {name: value for name, value in first.items() if name != "slot"}
    return rest | {"start": written(start, registry), "end": written(start + (hi - lo), registry)}


def _told(refused: Sequence[tuple[int, Outcome]], repeat: int) -> Outcome:
    taken = any(outcome.category == "conflict" for _, outcome in refused)
    issues = [
        Issue("error", issue.code, f"Visit {number + 1} of {repeat}: {issue.diagnostics}", (f"Appointment[{number}].start",))
        for number, outcome in refused
        for issue in outcome.issues
    ]
    return Outcome("conflict" if taken else "business-rule", issues=issues)
