"""What becomes of an appointment: confirmed, declined, cancelled, moved, not come to. Each keeps its id; statuses are in `store.rules.lifecycle`.

https://hl7.org/fhir/R4/appointment.html#status
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Put, Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import OVERBOOKED, extension, moment
from fhir_server.store.snapshot import Snapshot

from . import policies
from .booking import HOLD_EXPIRES, check_desk, held_to, own_schedule, participants, sight_of, times, with_alternatives
from .rules import Planner
from .times import Place, Time, offered, references, slots_in_time, span_of, written

Change = Callable[[Connection, Snapshot, Resource, int], None]
"""Makes of an Appointment, which is locked, what it is to be; the last is its number."""


_CANCELLABLE: Final = frozenset({"proposed", "waitlist", "pending", "booked", "arrived", "checked-in"})


def confirm(store: Store, act: Act, identity: str, override: str | None = None) -> Commit:
    """Validates what a patient has booked: `pending` becomes `booked`.

    Raises Outcome `conflict` where a Slot that it takes was closed since, and `business-rule` where its time is not offered at all any more, or
    is over; the desk validates it nevertheless with a reason to `override` that.
    """
    asked: Resource = {}

    def change(connection: Connection, db: Snapshot, resource: Resource, number: int) -> None:
        _validating(resource)
        asked.clear()
        asked.update(resource)
        if override is not None:
            check_desk(act)
            _overbook(resource, override)
        elif slots := slots_in_time(connection, resource, store.registry):
            offered(Place(Planner(db, store.registry, store.clock()), sight_of(db, act), number), resource | {"slot": slots})
        resource["status"] = "booked"
        resource["participant"] = [{**each, "status": "accepted"} for each in resource.get("participant", ())]

    try:
        return _changed(store, act, identity, change, by_clinic=True)
    except Outcome as refused:
        raise with_alternatives(store, act, asked or None, refused) from None


def decline(store: Store, act: Act, identity: str, reason: Resource) -> Commit:
    """Says no to what a patient has booked: `pending` becomes `cancelled`."""

    def change(connection: Connection, db: Snapshot, resource: Resource, number: int) -> None:
        del connection, db, number
        _validating(resource)
        resource |= {"status": "cancelled", "cancelationReason": reason}
        resource["participant"] = [
            {**each, "status": each["status"] if name.startswith("Patient/") else "declined"} for name, each in references(resource, store.registry)
        ]

    return _changed(store, act, identity, change, by_clinic=True)


def cancel(store: Store, act: Act, identity: str, reason: Resource) -> Commit:
    """Cancels an appointment or gives a hold back. Raises Outcome `business-rule` where it is too late for the caller's role."""

    def change(connection: Connection, db: Snapshot, resource: Resource, number: int) -> None:
        del db, number
        if resource.get("status") not in _CANCELLABLE:
            raise Outcome("business-rule", f"An appointment that is {resource.get('status')} is not cancelled")
        _in_time(store, act, connection, resource)
        resource |= {"status": "cancelled", "cancelationReason": reason}

    return _changed(store, act, identity, change)


def no_show(store: Store, act: Act, identity: str, reason: Resource | None) -> Commit:
    """Says that somebody has not come: `booked` becomes `noshow`. Raises Outcome `business-rule` from any other status."""

    def change(connection: Connection, db: Snapshot, resource: Resource, number: int) -> None:
        del connection, db, number
        if resource.get("status") != "booked":
            raise Outcome("business-rule", f"An appointment that is {resource.get('status')} is no no-show; it has to be booked")
        resource["status"] = "noshow"
        if reason is not None:
            resource["cancelationReason"] = reason

    return _changed(store, act, identity, change, by_clinic=True)


def reschedule(store: Store, act: Act, identity: str, start: datetime | None, slot: str | None, override: str | None) -> Commit:
    """Moves an appointment to another time that is offered, or for staff to any with a reason; the old time is free in the same transaction.

    What was booked stays so: it is offered time that a patient moves to. Raises Outcome as `booking.book`.
    """
    asked: Resource = {}

    def change(connection: Connection, db: Snapshot, resource: Resource, number: int) -> None:
        if resource.get("status") not in {"pending", "booked"} or moment(extension(resource, HOLD_EXPIRES, "valueInstant")) is not None:
            raise Outcome("business-rule", f"An appointment that is {resource.get('status')} is not moved; it has to be pending or booked")
        _in_time(store, act, connection, resource)
        asked.clear()
        asked.update(_moved(store, connection, resource, start, slot))
        time = _new_time(store, act, connection, db, asked, number, override)
        old = openings.named(connection, _old_slots(resource))
        behind = {piece.schedule for piece in old} or set(time.schedules)
        gone = {actor for found in openings.actors(connection, behind).values() for actor in found}
        patients = [name.removeprefix("Patient/") for name, _ in references(resource, store.registry) if name.startswith("Patient/")]
        if time.schedules:
            listed = participants(act, db, time.schedules, resource, next(iter(patients), None), store.registry, gone)
            resource["participant"] = listed if resource["status"] == "pending" else [{**each, "status": "accepted"} for each in listed]
        resource.pop("slot", None)
        resource |= times(time, store.registry)
        if override is not None:
            _overbook(resource, override)

    try:
        return _changed(store, act, identity, change)
    except Outcome as refused:
        raise with_alternatives(store, act, asked or None, refused) from None


def _changed(store: Store, act: Act, identity: str, change: Change, *, by_clinic: bool = False) -> Commit:
    """Changes one Appointment that the caller sees. Raises Outcome `not-found` for one that they do not, `forbidden` for another's schedule."""
    act.require("Appointment", "u")
    if by_clinic and not act.is_desk and not act.is_clinical:
        raise Outcome("forbidden", f"${act.name} is for the clinic")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        number = openings.lock(connection, store.registry.types["Appointment"], identity)
        resource = content(visible(db, act, "Appointment", identity))
        if act.is_clinical and not act.is_desk and not db.seen_by(act.grant).opens("Appointment", identity, "u"):
            raise Outcome("forbidden", "Doctors keep their own schedule")
        change(connection, db, resource, number)
        return [Put(resource, identity)]

    return carry_out(store, act, prepare)


def _validating(resource: Resource) -> None:
    if extension(resource, HOLD_EXPIRES, "valueInstant") is not None:
        raise Outcome("business-rule", "The time is only held; it has to be booked before anybody validates it")
    if resource.get("status") != "pending":
        raise Outcome("business-rule", f"An appointment that is {resource.get('status')} waits for no validation; it has to be pending")


def _in_time(store: Store, act: Act, connection: Connection, resource: Resource) -> None:
    if extension(resource, HOLD_EXPIRES, "valueInstant") is not None:
        return
    minutes = policies.policy(connection, policies.role_of(act)).cancel_minutes
    start = moment(resource.get("start"))
    if minutes is not None and start is not None and start < store.clock() + timedelta(minutes=minutes):
        raise Outcome("business-rule", f"It begins within {minutes} minutes: it is too late for a change; ask the clinic")


def _moved(store: Store, connection: Connection, resource: Resource, start: datetime | None, slot: str | None) -> Resource:
    """The Appointment as it asks for the new time."""
    lo, hi = span_of(resource)
    length = hi - lo
    asked: dict[str, Any] = {name: value for name, value in resource.items() if name != "slot"}
    if slot is not None:
        found = openings.named(connection, [slot])
        if not found:
            raise Outcome("business-rule", f"Slot/{slot} is not offered", expression="slot")
        asked["slot"] = [{"reference": f"Slot/{slot}"}]
        start = start or found[0].lo
        length = min(length, found[0].hi - found[0].lo)
    if start is None:
        raise Outcome("parameter", "One of the parameters 'start' and 'slot' is needed", code="required")
    return asked | {"start": written(start, store.registry), "end": written(start + length, store.registry)}


def _new_time(store: Store, act: Act, connection: Connection, db: Snapshot, asked: Resource, number: int, override: str | None) -> Time:
    lo, hi = span_of(asked)
    if override is not None:
        check_desk(act)
        return Time(lo, hi, (), ())
    held_to(act, connection, None, (lo, hi), store.clock())
    time = offered(Place(Planner(db, store.registry, store.clock()), sight_of(db, act), number), asked)
    own_schedule(act, connection, time.schedules)
    return time


def _overbook(resource: Resource, reason: str) -> None:
    rest = [each for each in resource.get("extension", ()) if each.get("url") != OVERBOOKED]
    resource["extension"] = [*rest, {"url": OVERBOOKED, "valueString": reason}]


def _old_slots(resource: Resource) -> list[str]:
    return [str(each.get("reference", "")).rpartition("/")[2] for each in resource.get("slot", ())]


__all__ = ["cancel", "confirm", "decline", "no_show", "reschedule"]
