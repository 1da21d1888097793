"""An appointment ends with the visit that came of it, and whoever waits for it leaves the queue with it; by whatever door, in one transaction.

https://hl7.org/fhir/R4/appointment.html#status, https://hl7.org/fhir/R4/encounter.html

Until then it is checked in, and its time is held. A visit that is over fulfils it; whoever has left unseen has called it off; a visit that
was entered in error, or is deleted, was none, so that the patient can be checked in again. The other way round, who is only waiting has left
when the appointment is called off, and was never checked in when that is taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.search import Registry
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource
from fhir_server.store.writing.content import instant
from fhir_server.store.writing.current import following
from fhir_server.store.writing.links import local
from fhir_server.store.writing.plan import Target, Writer

_LEFT: Final = "Left without being seen"
_ENDS: Final = {"finished": "fulfilled", "cancelled": "cancelled", "entered-in-error": "arrived"}
_TAKEN_BACK: Final = {"cancelled": "cancelled", "arrived": "entered-in-error", "entered-in-error": "entered-in-error"}
"""What the visit of somebody who waits becomes with the appointment."""
_MOST: Final = 20
"""Appointments of one Encounter that are looked at."""
_ENTERED: Final = "SELECT appointment FROM queue_entry WHERE encounter = %s AND appointment IS NOT NULL"
_WAITING: Final = "SELECT encounter FROM queue_entry WHERE appointment = %s AND state IN ('waiting', 'called') ORDER BY encounter"
_ELSEWHERE: Final = "SELECT 1 FROM queue_entry WHERE appointment = %s AND encounter <> %s AND state <> 'ended'"


def follow(writer: Writer, connection: Connection, targets: Sequence[Target], at: datetime) -> list[Target]:
    """The Appointments that end with the Encounters that are written; one that is written anyway is changed where it stands.

    None and no statement without an Encounter that ends; two or three for each that does. Only an appointment that is checked in follows, of the same
    patient, and only where no other visit of it is still in a queue.
    """
    there = {target.id: target for target in targets if target.type == "Appointment"}
    found: list[Target] = []
    for target in targets:
        status = _ending(target) if target.type == "Encounter" else None
        if status is None:
            continue
        for identity in sorted(_appointments(writer, connection, target)):
            own = there.get(identity)
            appointment = own or following(writer, connection, "Appointment", identity, at)
            if appointment is None or appointment.resource is None or not _is_checked_in(appointment):
                continue
            if not _is_theirs(target, appointment.resource, writer.registry) or connection.execute(_ELSEWHERE, (identity, target.id)).fetchone():
                continue
            appointment.resource = _ended(appointment.resource, status)
            if own is None:
                there[identity] = appointment
                found.append(appointment)
    return found


def take_back(writer: Writer, connection: Connection, targets: Sequence[Target], at: datetime) -> list[Target]:
    """The Encounters of those who wait for an Appointment that is no longer checked in; one that is written anyway is its writer's.

    None and no statement without such an appointment; two for each. A visit under way, or sent on within one, goes on.
    """
    there = {target.id for target in targets if target.type == "Encounter"}
    found: list[Target] = []
    for target in targets:
        status = _taken_back(target) if target.type == "Appointment" else None
        rows = connection.execute(_WAITING, (target.id,)).fetchall() if status is not None else []
        for identity in (identity for (identity,) in rows if identity not in there):
            encounter = following(writer, connection, "Encounter", identity, at)
            if encounter is not None and encounter.resource is not None and encounter.resource["status"] in {"arrived", "triaged"}:
                encounter.resource = _left(encounter.resource, str(status), at)
                found.append(encounter)
    return found


def _taken_back(target: Target) -> str | None:
    """What the visit becomes with an appointment that was checked in until now."""
    status = _TAKEN_BACK.get(str(target.resource.get("status"))) if target.resource is not None else "entered-in-error"
    return status if status is not None and (_before(target) or {}).get("status") == "checked-in" else None


def _left(encounter: Resource, status: str, at: datetime) -> dict[str, Any]:
    history = list(encounter.get("statusHistory", ()))
    since = history[-1].get("period", {}).get("end") if history else None
    period = {"start": since} if since is not None else {}
    return {**encounter, "status": status, "statusHistory": [*history, {"status": encounter["status"], "period": period | {"end": instant(at)}}]}


def _ending(target: Target) -> str | None:
    """What an appointment becomes of an Encounter that ends just now."""
    before = _before(target)
    if before is None or before.get("status") in _ENDS:
        return None
    return _ENDS.get(str(target.resource.get("status"))) if target.resource is not None else _ENDS["entered-in-error"]


def _is_checked_in(target: Target) -> bool:
    """Whether an appointment is checked in, and was so before: what somebody else writes of it besides is theirs."""
    return all((one or {}).get("status") == "checked-in" for one in (_before(target), target.resource))


def _before(target: Target) -> Resource | None:
    current = target.current
    return fhirjson.loads(current.body.encode()) if current is not None and not current.deleted and current.body is not None else None


def _appointments(writer: Writer, connection: Connection, target: Target) -> set[str]:
    named = (target.resource or _before(target) or {}).get("appointment", ())[:_MOST]
    found = {identity for each in named if (identity := local(each, writer.registry, "Appointment")) is not None}
    return found | {identity for (identity,) in connection.execute(_ENTERED, (target.id,)).fetchall()}


def _is_theirs(encounter: Target, appointment: Resource, registry: Registry) -> bool:
    """Whether the patient of an Encounter takes part in an appointment: nobody ends that of another by a visit that names it."""
    subject = local((encounter.resource or _before(encounter) or {}).get("subject"), registry, "Patient")
    return subject is not None and subject in _patients(appointment, registry)


def _patients(appointment: Resource, registry: Registry) -> Iterator[str | None]:
    for each in appointment.get("participant", ()):
        yield local(each.get("actor"), registry, "Patient")


def _ended(appointment: Resource, status: str) -> dict[str, Any]:
    # What a person was given as the reason of a cancellation stays.
    said = {"cancelationReason": {"text": _LEFT}} if status == "cancelled" and "cancelationReason" not in appointment else {}
    return {**appointment, **said, "status": status}
