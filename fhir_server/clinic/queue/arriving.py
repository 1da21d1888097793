"""Into the queue: `$check-in` to an appointment, `$walk-in` without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Outcome
from fhir_server.search.params.date import parse_date
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Put
from fhir_server.store.rules.queueing import queue
from fhir_server.store.rules.queueing.following import priority, with_priority
from fhir_server.store.rules.queueing.queue import Entry, Happened

from . import visits
from .order import EMERGENCY, credit
from .places import open_place, roles

Json = dict[str, Any]

_LOCK: Final = "SELECT FROM resource WHERE type = (SELECT tid FROM resource_type WHERE name = 'Appointment') AND id = %s FOR NO KEY UPDATE"


def check_in(store: Store, act: Act, appointment: str, location: str | None = None) -> Commit:
    """The Encounter of whoever has come to an appointment, first of what is written; the Appointment is checked in, both or neither.

    `location` is the queue's where the appointment does not say, or another one. Raises Outcome `not-found` and `gone`, `forbidden`, `conflict`
    where they are checked in already, and `business-rule` where the appointment is not booked, has no patient, or no place can be found.
    """
    act.require("Appointment", "u")
    act.require("Encounter", "c")

    def prepare(connection: Connection, db: Snapshot) -> tuple[list[Op], Entry]:
        connection.execute(_LOCK, (appointment,))
        visible(db, act, "Appointment", appointment)
        version = db.read("Appointment", appointment)
        assert version is not None
        found = content(version)
        if found["status"] == "checked-in":
            raise Outcome("conflict", f"Appointment/{appointment} is checked in already")
        if found["status"] not in {"booked", "arrived"}:
            raise Outcome("business-rule", f"Nobody checks in to an Appointment that is {found['status']}", expression="Appointment.status")
        patient = next(_actors(found, "Patient"), None)
        if patient is None:
            raise Outcome("business-rule", "The Appointment has no patient", expression="Appointment.participant")
        place = location or _place(store, connection, db, found)
        if place is None:
            raise Outcome("business-rule", "The Appointment does not say where it is; name the `location`", expression="Appointment.participant")
        now, zone = store.clock(), visits.zone_of_appointment(found)
        start = parse_date(found["start"], store.registry.zone)[0] if "start" in found else None
        entry, there = _entry(store, connection, db, act, (patient, place, zone), now)
        entry = replace(entry, appointment=appointment, credit=credit(now, start))
        extension = priority(zone, now, "auto")
        encounter = visits.of_appointment(visits.begun(entry, there, extension, None), found)
        return [Create(encounter), Put({**with_priority(found, extension), "status": "checked-in"}, appointment)], entry

    return _carried_out(store, act, prepare, "check-in")


def walk_in(store: Store, act: Act, patient: str, location: str, zone: str | None = None, reason: str | None = None) -> Commit:
    """The Encounter of somebody who has come without an appointment. `patient` and `location` are ids.

    Raises Outcome `not-found` and `gone`, `forbidden`, and `conflict` where they stand in that queue already.
    """
    act.require("Encounter", "c")

    def prepare(connection: Connection, db: Snapshot) -> tuple[list[Op], Entry]:
        visible(db, act, "Patient", patient)
        now = store.clock()
        entry, there = _entry(store, connection, db, act, (patient, location, zone or "regular"), now)
        by = act.grant.user if zone is not None and (act.grant.user or "").startswith("Practitioner/") else None
        extension = priority(entry.zone, now, "auto" if zone is None else "triage", by, reason if zone == EMERGENCY else None)
        return [Create(visits.begun(entry, there, extension, reason))], entry

    return _carried_out(store, act, prepare, "walk-in", reason)


def _carried_out(
    store: Store, act: Act, prepare: Callable[[Connection, Snapshot], tuple[list[Op], Entry]], event: str, reason: str | None = None
) -> Commit:
    made: list[Entry] = []

    def looked(connection: Connection, db: Snapshot) -> list[Op]:
        ops, entry = prepare(connection, db)
        made[:] = [entry]
        return ops

    def beside(connection: Connection, commit: Commit) -> None:
        version = commit.written[0].version
        assert version is not None
        entry = replace(made[0], encounter=version.id)
        queue.save(connection, entry, Happened(event, entry.arrived, act.grant.actor, reason))

    return carry_out(store, act, looked, beside)


def _entry(store: Store, connection: Connection, db: Snapshot, act: Act, who: tuple[str, str, str], now: datetime) -> tuple[Entry, Json]:
    """The entry, but for the Encounter that is still to be made, of a patient in the queue of a location with a zone; and the Location."""
    patient, location, zone = who
    place = open_place(db, act, location)
    there = queue.of_patient(connection, patient, location)
    if there is not None:
        raise Outcome("conflict", f"This patient stands in the queue already, with the token {there.token}: Encounter/{there.encounter}")
    day = queue.day_at(place, now, store.registry.zone)
    token = queue.token(connection, location, day)
    return Entry("", location, patient, None, day, token, zone, now, now, now, "waiting", now), place


def _actors(appointment: Json, kind: str) -> Iterator[str]:
    for each in appointment.get("participant", ()):
        reference = each.get("actor", {}).get("reference", "")
        if each.get("status") != "declined" and f"/{reference}".rpartition("/")[0].endswith(f"/{kind}"):
            yield reference.rpartition("/")[2]


def _place(store: Store, connection: Connection, db: Snapshot, appointment: Json) -> str | None:
    """Where an appointment is: at the Location that takes part, that of its slot's schedule, of its service, or where its practitioner works."""
    if (stated := next(_actors(appointment, "Location"), None)) is not None:
        return stated
    slots = db.read_many([("Slot", each["reference"].rpartition("/")[2]) for each in appointment.get("slot", ()) if "reference" in each])
    planned = [content(each).get("schedule", {}).get("reference", "").rpartition("/")[2] for each in slots]
    for schedule in db.read_many([("Schedule", identity) for identity in planned if identity]):
        acting = [{"actor": actor} for actor in content(schedule).get("actor", ())]
        if (found := next(_actors({"participant": acting}, "Location"), None)) is not None:
            return found
    named = [(kind, identity) for kind in ("HealthcareService", "PractitionerRole") for identity in _actors(appointment, kind)]
    working = [content(each) for each in db.read_many(named)]
    for practitioner in _actors(appointment, "Practitioner"):
        working += roles(store, connection, db, f"Practitioner/{practitioner}")
    places = [each["reference"].rpartition("/")[2] for one in working for each in one.get("location", ()) if "reference" in each]
    return next(iter(places), None)
