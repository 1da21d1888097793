"""What a patient takes home of a visit, and the slips before it: visit summary, queue token, appointment card.

https://hl7.org/fhir/R4/encounter.html, https://hl7.org/fhir/R4/appointment.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .reading import Json, Record, concept, plain, quantity
from .sheets import Sheet, day_of, notes_of, sheet
from .slip import dosage_lines, medicine_of
from .wording import Wording

_QUEUE_NUMBER: Final = "/sid/queue-token"
_ZONE: Final = "/StructureDefinition/queue-priority"
_COLORS: Final = {"emergency": "#b3261e", "follow-up": "#a15c00", "regular": "#1e6b3a"}
_BOOKED: Final = frozenset({"booked", "arrived", "checked-in", "fulfilled"})


def summary(record: Record, wording: Wording) -> Sheet:
    """What was done at an Encounter, of what the caller may see: by the names of `record.beside`."""
    main, beside = record.main, record.beside
    start = main.get("period", {}).get("start")
    sections = (
        ("reason", [_entry(concept(each)) for each in main.get("reasonCode", ())]),
        ("diagnoses", [_entry(concept(each.get("code")), notes_of(each)) for each in beside.get("Condition", ())]),
        ("measured", [row for each in beside.get("vitals", ()) for row in _measured(each, wording)]),
        ("procedures", [_entry(concept(each.get("code")), notes_of(each)) for each in beside.get("Procedure", ())]),
        ("medicines", [_entry(medicine_of(record, each), dosage_lines(each, wording)) for each in beside.get("MedicationRequest", ())]),
        ("tests-ordered", [_entry(concept(each.get("code"))) for each in beside.get("ServiceRequest", ())]),
        ("results", [row for each in beside.get("results", ()) for row in _measured(each, wording)]),
        ("next-visit", [_next(record, wording, each) for each in beside.get("Appointment", ())]),
    )
    return sheet(
        "visit",
        record,
        wording,
        heading=wording("visit"),
        on=day_of(start, wording),
        facts=[
            (wording("when"), wording.time(start) if start else ""),
            (wording("seen-by"), wording.joined(dict.fromkeys(record.named(each.get("individual")) for each in main.get("participant", ())))),
            (wording("place"), wording.joined(dict.fromkeys(record.named(each.get("location")) for each in main.get("location", ())))),
        ],
        sections=[{"title": wording(name), "rows": rows} for name, rows in sections if rows],
    )


def token(record: Record, wording: Wording) -> Sheet:
    """The slip of somebody who waits: their number, zone and place. Without a name: it lies around in waiting rooms."""
    main = record.main
    number = next((plain(each.get("value"), 20) for each in main.get("identifier", ()) if str(each.get("system")).endswith(_QUEUE_NUMBER)), "")
    zone = next((coding.get("code") for coding in _zone(main) if wording.has(f"zone-{coding.get('code')}")), None)
    arrived = next((each.get("period", {}).get("start") for each in main.get("statusHistory", ()) if each.get("status") == "arrived"), None)
    made = sheet(
        "token",
        record,
        wording,
        heading=number or "–",
        facts=[
            (wording("arrived"), wording.time(arrived or main.get("period", {}).get("start") or "")),
            (wording("place"), wording.joined(dict.fromkeys(record.named(each.get("location")) for each in main.get("location", ())))),
        ],
        zone=wording(f"zone-{zone}") if zone else "",
        color=_COLORS.get(zone or "", "#14213d"),
    )
    return made | {"title": f"{wording('token')} {number}".strip(), "patient": {"name": "", "lines": [], "facts": []}}


def card(record: Record, wording: Wording) -> Sheet:
    """The card of an Appointment: when, with whom, where, and what to bring."""
    main = record.main
    start, status = main.get("start"), main.get("status")
    actors = [(each.get("actor"), str(each.get("actor", {}).get("reference", ""))) for each in main.get("participant", ())]
    doctors = [record.named(actor) for actor, text in actors if text.startswith(("Practitioner/", "PractitionerRole/"))]
    places = [_place(record, actor) for actor, text in actors if text.startswith("Location/")]
    mark = None if status in _BOOKED else wording("cancelled") if status in ("cancelled", "entered-in-error", "noshow") else wording("not-booked")
    when = wording.time(start, weekday=True) if start else ""
    return sheet(
        "card",
        record,
        wording,
        heading=when or wording("card"),
        on=day_of(start, wording),
        facts=[
            (wording("with"), wording.joined(dict.fromkeys(doctors))),
            (wording("place"), wording.joined(dict.fromkeys(places))),
            (wording("for"), wording.joined(concept(each) for each in main.get("serviceType", ()))),
        ],
        mark=mark,
        label=wording("card"),
        notes=[plain(main.get("patientInstruction"), 300)] if main.get("patientInstruction") else [],
    ) | {"title": wording.joined((wording("card"), when))}


def _zone(main: Json) -> Sequence[Json]:
    parts = (part for each in main.get("extension", ()) if str(each.get("url")).endswith(_ZONE) for part in each.get("extension", ()))
    return [coding for part in parts if part.get("url") == "zone" for coding in part.get("valueCodeableConcept", {}).get("coding", ())]


def _entry(text: str, details: Sequence[str] = (), value: str = "") -> dict[str, Any]:
    return {"text": text, "details": list(details)[:10], "value": value}


def _measured(observation: Json, wording: Wording) -> list[dict[str, Any]]:
    parts = observation.get("component", ())
    if parts:
        value = wording.joined(f"{concept(part.get('code'))} {_value(part, wording)}" for part in parts)
        return [_entry(concept(observation.get("code")), value=value)]
    return [_entry(concept(observation.get("code")), value=_value(observation, wording))]


def _value(observation: Json, wording: Wording) -> str:
    return (
        quantity(observation.get("valueQuantity"), wording)
        or concept(observation.get("valueCodeableConcept"))
        or plain(observation.get("valueString"), 500)
    )


def _next(record: Record, wording: Wording, appointment: Json) -> dict[str, Any]:
    asked: Json = next(iter(appointment.get("requestedPeriod", ())), {})
    when = wording.time(appointment["start"]) if "start" in appointment else ""
    period = " – ".join(wording.date(asked[end]) for end in ("start", "end") if end in asked)
    with_whom = (record.named(each.get("actor")) for each in appointment.get("participant", ()))
    return _entry(when or period, [line for line in (plain(appointment.get("description")), wording.joined(list(with_whom)[1:2])) if line])


def _place(record: Record, reference: Json) -> str:
    found = record.of(reference) or {}
    address = found.get("address", {})
    lines = (plain(line, 120) for line in address.get("line", ()))
    return ", ".join(part for part in (record.named(reference), *lines, plain(address.get("city"), 80)) if part)
