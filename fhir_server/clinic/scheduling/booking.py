"""Holding and booking times: by patients for themselves, by doctors in their own schedule, by staff for everybody.

https://hl7.org/fhir/R4/appointment.html

Nothing here keeps two from having one time: `store.rules.scheduling.occupancy` does, for every door.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Issue, Outcome
from fhir_server.search import SYSTEM, Registry
from fhir_server.settings import CANON
from fhir_server.store import Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Put, Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import OVERBOOKED, extension, moment
from fhir_server.store.rules.scheduling.openings import Piece
from fhir_server.store.snapshot import Snapshot

from . import policies
from .rules import Planner
from .times import Place, Time, alternatives, offered, references, span_of, written

OFFERED_BY: Final = "waiting list"
"""In whose name the times are held that people on the waiting list are offered."""
HOLD_EXPIRES: Final = f"{CANON}/StructureDefinition/hold-expires"
_CARRIED: Final = ("serviceCategory", "serviceType", "specialty", "appointmentType", "reasonCode", "description", "comment")
_CARRIED_FOR_THE_CLINIC: Final = (*_CARRIED, "reasonReference", "priority", "supportingInformation", "patientInstruction", "basedOn", "identifier")


@dataclass(frozen=True, slots=True)
class Asked:
    """A booking as it is asked for: of an `appointment` or of a `hold`, by id, for a `patient`, by id.

    `override` is the reason for a time that is not offered, or for passing over what the role is held to.
    """

    appointment: Resource | None = None
    hold: str | None = None
    patient: str | None = None
    override: str | None = None


def sight_of(db: Snapshot, act: Act) -> Any:
    """Which Slots somebody may see. See `offers.Sight`."""

    def sight(found: Collection[Piece]) -> set[str]:
        return {version.id for version in db.seen_by(act.grant).read_many([("Slot", each) for each in {piece.id for piece in found} if each])}

    return sight


def hold(store: Store, act: Act, asked: Asked, until: datetime) -> Commit:
    """Keeps a time from others until a moment: an Appointment that is pending. Raises Outcome as `book`."""
    act.require("Appointment", "c")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        resource, _ = new_booking(store, act, asked, connection, db)
        resource["status"] = "pending"
        resource["extension"] = [*resource.get("extension", ()), {"url": HOLD_EXPIRES, "valueInstant": instant(until)}]
        return [Create(resource)]

    return _with_alternatives(store, act, asked.appointment, lambda: carry_out(store, act, prepare))


def book(store: Store, act: Act, asked: Asked) -> Commit:
    """Books a time: `booked` by who decides for the clinic, `pending` by patients, whom staff confirm.

    Raises Outcome `conflict` where it is taken, with what is free instead, `business-rule` where it is not offered or more than the role may,
    `forbidden` for another's schedule, record or hold, `not-found` for what the caller may not see.
    """
    act.require("Appointment", "c" if asked.hold is None else "u")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        if asked.hold is not None:
            return _from_hold(store, act, asked, connection, db)
        resource, patient = new_booking(store, act, asked, connection, db)
        if patient is None:
            raise Outcome("parameter", "The parameter 'patient' is needed", code="required")
        return [Create(resource)]

    return _with_alternatives(store, act, asked.appointment, lambda: carry_out(store, act, prepare))


def whose(act: Act, patient: str | None) -> str | None:
    """For whom somebody books, by id. Raises Outcome `forbidden` for patients who would book for others."""
    own = act.patient
    if own is None and not act.is_desk and not act.is_clinical:
        raise Outcome("forbidden", f"${act.name} is not open to this caller")
    if own is not None and patient not in (None, own):
        raise Outcome("forbidden", "Patients book for themselves")
    return own or patient


def own_schedule(act: Act, connection: Connection, schedules: Iterable[str]) -> None:
    """Raises Outcome `forbidden` for a doctor in the schedule of another."""
    if act.is_desk or not act.is_clinical:
        return
    if any(act.grant.user not in actors for actors in openings.actors(connection, list(schedules)).values()):
        raise Outcome("forbidden", "Doctors book in their own schedule")


def check_desk(act: Act) -> None:
    """Raises Outcome `forbidden` for whoever may not override what is offered."""
    if not act.is_desk:
        raise Outcome("forbidden", "Only staff book other times than those that are offered")


def new_booking(store: Store, act: Act, asked: Asked, connection: Connection, db: Snapshot, *, before: int = 0) -> tuple[Resource, str | None]:
    """The Appointment that is to be created, with the id of its patient; so many are booked `before` it in the same transaction. Raises as `book`."""
    if asked.appointment is None:
        raise Outcome("parameter", "The parameter 'appointment' is needed", code="required")
    patient, at = whose(act, asked.patient), store.clock()
    if patient is not None:
        visible(db, act, "Patient", patient)
    if asked.override is not None:
        check_desk(act)
    registry = store.registry
    lo, hi = span_of(asked.appointment)
    if asked.override is None:
        held_to(act, connection, patient, (lo, hi), at, before)
        time = offered(Place(Planner(db, registry, at), sight_of(db, act)), asked.appointment)
        own_schedule(act, connection, time.schedules)
    else:
        time = Time(lo, hi, (), ())
    resource = carried(act, asked.appointment)
    resource |= {"status": "booked" if act.patient is None else "pending", "created": instant(at)} | times(time, registry)
    if asked.override is not None:
        resource["extension"] = [{"url": OVERBOOKED, "valueString": asked.override}]
        if slots := asked.appointment.get("slot"):
            resource["slot"] = slots
    resource["participant"] = participants(act, db, time.schedules, asked.appointment, patient, registry)
    return resource, patient


def times(time: Time, registry: Registry) -> Resource:
    """What an Appointment says of its time."""
    found: Resource = {"start": written(time.lo, registry), "end": written(time.hi, registry)}
    found["minutesDuration"] = int((time.hi - time.lo).total_seconds() // 60) or 1
    if slots := [{"reference": f"Slot/{piece.id}"} for piece in time.pieces if piece.id]:
        found["slot"] = slots
    return found


def carried(act: Act, given: Resource) -> Resource:
    """An Appointment with what of a proposed one is taken over: of patients not all."""
    names = _CARRIED if act.patient is not None else _CARRIED_FOR_THE_CLINIC
    return {"resourceType": "Appointment"} | {name: given[name] for name in names if name in given}


def participants(
    act: Act, db: Snapshot, schedules: Collection[str], given: Resource, patient: str | None, registry: Registry, left: Collection[str] = ()
) -> list[Resource]:
    """Those whose schedules offer the time, and the patient; what else the clinic has said. `left` are those who take no part any more.

    Raises Outcome `invalid` where nobody is left.
    """
    word = "accepted" if act.patient is None else "needs-action"
    found: dict[str, Resource] = {}
    if act.patient is None:
        found = {name or str(number): dict(each) for number, (name, each) in enumerate(references(given, registry)) if name not in left}
        # Of patients, the one who is booked.
        found = {name: each for name, each in found.items() if not name.startswith("Patient/")}
    for version in db.seen_by(SYSTEM).read_many([("Schedule", identity) for identity in schedules]):
        actors = [{"actor": actor} for actor in content(version).get("actor", ())]
        for name, each in references({"participant": actors}, registry):
            found.setdefault(name or str(each), {**each, "required": "required"})
    listed = [{**each, "status": word} for each in found.values()]
    if patient is not None:
        listed.append({"actor": {"reference": f"Patient/{patient}"}, "required": "required", "status": "accepted"})
    if not listed:
        raise Outcome("invalid", "An appointment needs somebody who takes part", expression="Appointment.participant")
    return listed


def held_to(act: Act, connection: Connection, patient: str | None, span: tuple[datetime, datetime], at: datetime, before: int = 0) -> None:
    """Raises Outcome `business-rule` for a booking that the policy of the caller's role does not allow."""
    lo, hi = span
    rule = policies.policy(connection, policies.role_of(act))
    if rule.notice_minutes is not None and lo < at + timedelta(minutes=rule.notice_minutes):
        raise Outcome("business-rule", f"Bookings begin {rule.notice_minutes} minutes from now at the soonest; ask the clinic")
    if rule.horizon_days is not None and lo > at + timedelta(days=rule.horizon_days):
        raise Outcome("business-rule", f"Bookings begin {rule.horizon_days} days from now at the latest")
    if rule.longest_minutes is not None and hi - lo > timedelta(minutes=rule.longest_minutes):
        raise Outcome("business-rule", f"A booking takes {rule.longest_minutes} minutes at the most; ask the clinic for a longer one")
    if rule.open_bookings is not None and patient is not None:
        # Two at once would both count what was there before.
        openings.queue_up(connection, f"Patient/{patient}")
        if openings.to_come(connection, f"Patient/{patient}", at) + before >= rule.open_bookings:
            raise Outcome("business-rule", f"There are {rule.open_bookings} appointments to come already; cancel one of them first")


def _from_hold(store: Store, act: Act, asked: Asked, connection: Connection, db: Snapshot) -> list[Op]:
    registry, at = store.registry, store.clock()
    number = registry.types["Appointment"]
    identity = str(asked.hold)
    openings.lock(connection, number, identity)
    resource = content(visible(db, act, "Appointment", identity))
    until = moment(extension(resource, HOLD_EXPIRES, "valueInstant"))
    if resource.get("status") != "pending" or until is None:
        raise Outcome("business-rule", f"Appointment/{identity} is not held; it is {resource.get('status')}")
    author = openings.author(connection, number, identity)
    # What the waiting list offers is its patient's, who alone sees it, and the desk's.
    if author != act.grant.actor and not (author == OFFERED_BY and (act.is_desk or act.patient is not None)):
        raise Outcome("forbidden", "Somebody else holds this time")
    if until <= at:
        raise Outcome("conflict", f"The hold has expired at {instant(until)}; hold the time again")
    patient = whose(act, asked.patient)
    there = [name for name, _ in references(resource, registry) if name.startswith("Patient/")]
    if patient is None and not there:
        raise Outcome("parameter", "The parameter 'patient' is needed", code="required")
    if patient is not None and there and there != [f"Patient/{patient}"]:
        raise Outcome("business-rule", "The time is held for another patient")
    resource["participant"] = [
        {**each, "status": "accepted" if act.patient is None else each.get("status")} for each in resource.get("participant", ())
    ]
    if not there and patient is not None:
        visible(db, act, "Patient", patient)
        resource["participant"].append({"actor": {"reference": f"Patient/{patient}"}, "required": "required", "status": "accepted"})
    resource["status"] = "booked" if act.patient is None else "pending"
    drop_hold(resource)
    ops: list[Op] = [Put(resource, identity)]
    if author == OFFERED_BY:
        ops += _off_the_list(resource, store, connection, db)
    return ops


def _off_the_list(resource: Resource, store: Store, connection: Connection, db: Snapshot) -> list[Op]:
    """Ends the waiting of who has taken what was offered."""
    found: list[Op] = []
    for each in resource.pop("supportingInformation", ()):
        name, _, identity = str(each.get("reference", "")).partition("/")
        if name == "Appointment":
            openings.lock(connection, store.registry.types[name], identity)
            entry = db.read(name, identity)
            if entry is not None and entry.body is not None and (waiting := content(entry)).get("status") == "waitlist":
                found.append(Put({**waiting, "status": "cancelled", "cancelationReason": {"text": "Has taken a time that was offered"}}, identity))
    return found


def drop_hold(resource: Resource) -> None:
    """Makes an Appointment one that holds its time without an end."""
    rest = [each for each in resource.get("extension", ()) if each.get("url") != HOLD_EXPIRES]
    resource.pop("extension", None)
    if rest:
        resource["extension"] = rest


def _with_alternatives(store: Store, act: Act, resource: Resource | None, work: Any) -> Commit:
    try:
        done: Commit = work()
    except Outcome as refused:
        raise with_alternatives(store, act, resource, refused) from None
    return done


def with_alternatives(store: Store, act: Act, resource: Resource | None, refused: Outcome) -> Outcome:
    """What was refused because the time is taken, with what is free instead."""
    if refused.category != "conflict" or refused.issues[0].code != "conflict" or resource is None:
        return refused
    with store.snapshot(SYSTEM) as db:
        found: list[Issue] = alternatives(Place(Planner(db, store.registry, store.clock()), sight_of(db, act)), resource)
    return Outcome("conflict", issues=[*refused.issues, *found])


__all__ = [
    "HOLD_EXPIRES",
    "OFFERED_BY",
    "Asked",
    "book",
    "carried",
    "drop_hold",
    "held_to",
    "hold",
    "new_booking",
    "own_schedule",
    "participants",
    "sight_of",
    "times",
    "whose",
    "with_alternatives",
]
