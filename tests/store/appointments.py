"""Appointments for tests, and what the table of occupancy holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.search import Grant, Scope
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.rules.scheduling.occupancy import Clash, clashes

Json = dict[str, Any]
DAY = datetime(2031, 3, 3, 8, tzinfo=UTC)
STAFF = Grant("staff", frozenset({"staff"}), (Scope("*", frozenset("cruds")),))
DOCTOR = Grant("doctor", frozenset({"doctor"}), (Scope("*", frozenset("cruds")),))
OVERBOOKED: Json = {"extension": [{"url": f"{CANON}/StructureDefinition/overbooked", "valueString": "A sick child"}]}


def at(minutes: float) -> str:
    """An instant so many minutes after the day has begun."""
    return (DAY + timedelta(minutes=minutes)).isoformat()


def appointment(*actors: str, start: float = 0, minutes: float = 30, status: str = "booked", **fields: Any) -> Json:
    """An Appointment with these actors, all of whom have accepted."""
    participants = [{"status": "accepted", "actor": {"reference": actor}} for actor in actors]
    return {
        "resourceType": "Appointment",
        "status": status,
        "start": at(start),
        "end": at(start + minutes),
        "participant": participants,
        **fields,
    }


def capacity(count: int) -> Json:
    """The extension that says for how many at a time there is room."""
    return {"extension": [{"url": f"{CANON}/StructureDefinition/capacity", "valuePositiveInt": count}]}


def held(store: Store, identity: str | None = None) -> list[tuple[str, int, float, float]]:
    """Actor, lane, first and last minute of the day of all rows, or of one appointment's; an open end is infinite."""
    with store.database.connection() as connection:
        rows = connection.execute(
            "SELECT o.actor, o.lane, extract(epoch FROM lower(o.during) - %s) / 60, extract(epoch FROM upper(o.during) - %s) / 60"
            " FROM occupancy o JOIN resource r USING (rid) WHERE %s::text IS NULL OR r.id = %s ORDER BY 1, 3, 2",
            (DAY, DAY, identity, identity),
        ).fetchall()
    return [(actor, lane, float(lo), float(hi)) for actor, lane, lo, hi in rows]


def clashing(store: Store) -> list[Clash]:
    with store.database.connection() as connection:
        return clashes(connection, 100)
