"""Encounters of the queue as resources: how one begins, and what a move makes of it. Pure. https://hl7.org/fhir/R4/encounter.html"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from fhir_server.store import instant
from fhir_server.store.rules.queueing.following import with_token
from fhir_server.store.rules.queueing.queue import Entry

Json = dict[str, Any]

_CLASS: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_KINDS: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_APPOINTMENT_REASONS: Final = "http://terminology.hl7.org/CodeSystem/v2-0276"
_ZONES: Final[Mapping[str, str]] = {"EMERGENCY": "emergency", "FOLLOWUP": "follow-up"}
_MEMBERS: Final = ("Practitioner", "PractitionerRole", "RelatedPerson")


def zone_of_appointment(appointment: Mapping[str, Any]) -> str:
    """The zone that the kind of an appointment leads to, by HL7 table 0276; whatever is none of the urgent ones is regular."""
    codings = appointment.get("appointmentType", {}).get("coding", ())
    codes = [coding.get("code") for coding in codings if coding.get("system", _APPOINTMENT_REASONS) == _APPOINTMENT_REASONS]
    return next((_ZONES[code] for code in codes if code in _ZONES), "regular")


def begun(entry: Entry, place: Json, extension: Json, reason: str | None) -> Json:
    """A new Encounter of somebody who has come to a Location; the organization that has the place provides it."""
    resource: Json = {
        "resourceType": "Encounter",
        "extension": [extension],
        "status": "arrived",
        "class": {"system": _CLASS, "code": "AMB", "display": "ambulatory"},
        "subject": {"reference": f"Patient/{entry.patient}"},
        "location": [_place(entry)],
    }
    if "reference" in (provider := place.get("managingOrganization", {})):
        resource["serviceProvider"] = provider
    return with_token(resource, entry) | ({"reasonCode": [{"text": reason}]} if reason else {})


def of_appointment(resource: Json, appointment: Mapping[str, Any]) -> Json:
    """The same with what the appointment says: who takes part, the kind of service, the reason."""
    actors = [
        each["actor"] for each in appointment.get("participant", ()) if each.get("status") != "declined" and "reference" in each.get("actor", {})
    ]
    members = [{"individual": actor} for actor in actors if any(f"{kind}/" in actor["reference"] for kind in _MEMBERS)]
    found = {**resource, "appointment": [{"reference": f"Appointment/{appointment['id']}"}]}
    if members:
        found["participant"] = members
    if service := appointment.get("serviceType"):
        found["serviceType"] = service[0]
    if reasons := appointment.get("reasonCode"):
        found["reasonCode"] = reasons
    return found


def with_status(resource: Json, status: str, at: datetime, entry: Entry) -> Json:
    """The Encounter with another status; that before is in its history, from the end of the one before it on. The period is that of the visit."""
    if resource["status"] == status:
        return resource
    history = list(resource.get("statusHistory", ()))
    since = history[-1].get("period", {}).get("end") if history else None
    past = {"status": resource["status"], "period": {"start": since or instant(entry.arrived), "end": instant(at)}}
    found = {**resource, "status": status, "statusHistory": [*history, past]}
    period = resource.get("period", {})
    if status == "in-progress":
        found["period"] = {"start": instant(at)} | {name: value for name, value in period.items() if name != "end"}
    if status == "finished":
        found["period"] = {"start": instant(entry.started or entry.arrived)} | period | {"end": instant(at)}
    if status in {"finished", "cancelled"}:
        found["location"] = _left(found.get("location", ()), at)
    return found


def with_member(resource: Json, practitioner: str | None, at: datetime) -> Json:
    """The Encounter with whoever has called the patient among those who take part."""
    there = resource.get("participant", [])
    if practitioner is None or any(each.get("individual", {}).get("reference") == practitioner for each in there):
        return resource
    kind = [{"coding": [{"system": _KINDS, "code": "ATND", "display": "attender"}]}]
    return {**resource, "participant": [*there, {"type": kind, "period": {"start": instant(at)}, "individual": {"reference": practitioner}}]}


def moved_on(resource: Json, entry: Entry, at: datetime) -> Json:
    """The Encounter in another queue, with its token there."""
    return {**with_token(resource, entry), "location": [*_left(resource.get("location", ()), at), _place(entry, at)]}


def _place(entry: Entry, since: datetime | None = None) -> Json:
    return {"location": {"reference": f"Location/{entry.location}"}, "status": "active", "period": {"start": instant(since or entry.arrived)}}


def _left(places: Iterable[Json], at: datetime) -> list[Json]:
    return [
        each if "end" in each.get("period", {}) else {**each, "status": "completed", "period": {**each.get("period", {}), "end": instant(at)}}
        for each in places
    ]
