"""Whose time an Appointment takes, read off its content alone. https://hl7.org/fhir/R4/appointment.html

People and devices can be in one place at a time. A PractitionerRole is the Practitioner in it, a Location is held where it is a room or a bed, a
HealthcareService where it says for how many at a time it has room, and a Slot is filled as a whole, but by who takes a part of its time: what these
are is looked up in `occupancy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.settings import CANON

HOLDING: Final = frozenset({"pending", "booked", "arrived", "checked-in"})
"""The statuses that hold time. Who is fulfilled has been seen: the time is over."""
SINGLE: Final = frozenset({"Device", "Patient", "Practitioner"})
"""What can be in one place at a time, whatever else is known of it."""
LOOKED_UP: Final = frozenset({"HealthcareService", "Location", "PractitionerRole", "Slot"})
"""What has to be looked at to know whether, and for how many, it can be held."""
OVERBOOKED: Final = f"{CANON}/StructureDefinition/overbooked"
CAPACITY: Final = f"{CANON}/StructureDefinition/capacity"

_HOLD_EXPIRES: Final = f"{CANON}/StructureDefinition/hold-expires"
_ROOMS: Final = frozenset({"bd", "ro"})
_PHYSICAL_TYPE: Final = "http://terminology.hl7.org/CodeSystem/location-physical-type"
_TYPE_IN_URL: Final = re.compile(r".*/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}", re.ASCII)
_ACTORS: Final = SINGLE | LOOKED_UP - {"Slot"}
_UTC: Final = ZoneInfo("UTC")
EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""The time for which a Slot is filled: whoever fills it, fills it whenever that is. Whoever takes a part of it takes that."""

Json = Mapping[str, Any]
_Span = tuple[datetime, datetime, datetime | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that an appointment holds from `lo` to `hi`, half open, until it `expires`.

    `type` and `id` say what it is, where it is on this server; else `type` is empty and `id` a URL. `named` is how the appointment names it, and
    `place` where. As many as `room` may hold it at a time. Of a Slot, `within` is the appointment's own time.
    """

    type: str
    id: str
    named: str
    place: str
    lo: datetime
    hi: datetime
    expires: datetime | None = None
    room: int = 1
    within: tuple[datetime, datetime] | None = None

    @property
    def actor(self) -> str:
        """The one text by which it is known."""
        return f"{self.type}/{self.id}" if self.type else self.id


def claims(resource: Json, registry: Registry, at: datetime) -> Iterator[Claim]:
    """What an Appointment asks to hold at that moment; nothing without a start and a later end, or with a status that holds no time."""
    status = resource.get("status")
    lo, hi = moment(resource.get("start")), moment(resource.get("end"))
    if status not in HOLDING or lo is None or hi is None or lo >= hi:
        return
    expires = moment(extension(resource, _HOLD_EXPIRES, "valueInstant")) if status == "pending" else None
    if expires is not None and expires <= at:
        return
    for number, participant in enumerate(resource.get("participant", ())):
        if participant.get("status") != "declined":
            yield from _claimed(participant.get("actor"), f"Appointment.participant[{number}].actor", registry, (lo, hi, expires))
    for number, slot in enumerate(resource.get("slot", ())):
        for claim in _claimed(slot, f"Appointment.slot[{number}]", registry, (*EVER, expires), frozenset({"Slot"})):
            yield replace(claim, within=(lo, hi))


def _claimed(reference: Any, place: str, registry: Registry, span: _Span, wanted: frozenset[str] = _ACTORS) -> Iterator[Claim]:
    text = reference.get("reference") if isinstance(reference, dict) else None
    found = locate(text, registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
    if found is None or not isinstance(text, str):
        return
    identity, number = found
    if number != ABSOLUTE:
        name = registry.type_name(number)
        if name in wanted:
            yield Claim(name, identity, f"{name}/{identity}", place, *span)
    elif (elsewhere := _TYPE_IN_URL.fullmatch(identity)) and elsewhere[1] in wanted - LOOKED_UP:
        yield Claim("", identity, identity, place, *span)


def party(reference: Any, registry: Registry) -> tuple[str, str] | None:
    """Type and id of what a Reference names, where that can be held; the type is empty and the id a URL for what is elsewhere."""
    found = next(_claimed(reference, "", registry, (*EVER, None)), None)
    return None if found is None else (found.type, found.id)


def moment(text: Any) -> datetime | None:
    """A dateTime or instant, its beginning; None for anything else."""
    try:
        return parse_date(text, _UTC)[0] if isinstance(text, str) else None
    except ValueError:
        return None


def room(resource: Json) -> int | None:
    """For how many at a time a Location, HealthcareService or Slot has room; None where it is not held at all."""
    stated = extension(resource, CAPACITY, "valuePositiveInt")
    if isinstance(stated, int) and stated > 0:
        return stated
    if resource.get("resourceType") == "Slot":
        return 1
    if resource.get("resourceType") == "Location" and resource.get("mode") != "kind":
        codings = resource.get("physicalType", {}).get("coding", ())
        return 1 if any(coding.get("code") in _ROOMS and coding.get("system") == _PHYSICAL_TYPE for coding in codings) else None
    return None


def overbooked(resource: Json) -> str | None:
    """The reason for which an Appointment holds time that others hold already; None where it does not. Raises Outcome `invalid` without a reason."""
    if not any(each.get("url") == OVERBOOKED for each in resource.get("extension", ())):
        return None
    reason = extension(resource, OVERBOOKED, "valueString")
    if not isinstance(reason, str) or not reason.strip():
        raise Outcome("invalid", f"{OVERBOOKED} needs the reason as its valueString", expression="Appointment.extension")
    return reason


def extension(resource: Json, url: str, value: str) -> Any:
    """A value of the first extension of this URL; None where there is none."""
    return next((each.get(value) for each in resource.get("extension", ()) if each.get("url") == url), None)
