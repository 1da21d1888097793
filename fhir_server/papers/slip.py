"""Prescriptions as sheets: all MedicationRequests of one slip. https://hl7.org/fhir/R4/medicationrequest.html, https://hl7.org/fhir/R4/dosage.html"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from .reading import Json, Record, concept, doctor_block, paragraphs, plain, quantity
from .sheets import Sheet, day_of, notes_of, sheet
from .wording import Wording


def prescription(record: Record, wording: Wording) -> Sheet:
    """The slip: `record.beside["slip"]` are its MedicationRequests, of which `record.main` is one. What is not active says so."""
    items = record.beside.get("slip") or [record.main]
    states = {str(each.get("status")) for each in items}
    mark = None
    if "active" not in states:
        status = f"status-{states.pop()}"
        mark = wording("draft") if status == "status-draft" else wording("not-valid", wording(status if wording.has(status) else "status-unknown"))
    written = max((str(each.get("authoredOn", "")) for each in items), default="")
    ends = [each.get("dispenseRequest", {}).get("validityPeriod", {}).get("end") for each in items]
    number = plain(record.main.get("groupIdentifier", {}).get("value"), 80)
    return sheet(
        "prescription",
        record,
        wording,
        heading=wording("prescription"),
        number=number,
        on=day_of(written, wording),
        facts=[
            (wording("number"), number),
            (wording("date"), wording.date(written) if written else ""),
            (wording("until"), wording.date(min(end for end in ends if end)) if any(ends) else ""),
        ],
        mark=mark,
        items=[_item(record, wording, each) for each in items],
        doctor=doctor_block(record, record.main.get("requester"), wording),
    )


def medicine_of(record: Record, request: Json) -> str:
    """What a MedicationRequest prescribes, by name."""
    if "medicationCodeableConcept" in request:
        return concept(request["medicationCodeableConcept"])
    reference = request.get("medicationReference", {})
    inside = (each for each in request.get("contained", ()) if reference.get("reference") == f"#{each.get('id')}")
    found = next(inside, None) or record.of(reference)
    return (concept(found.get("code")) if found else "") or plain(reference.get("display"))


def dosage_lines(request: Json, wording: Wording) -> list[str]:
    """How a medicine is taken: what the doctor has written, else what the parts say in the language of the paper."""
    found: list[str] = []
    for each in request.get("dosageInstruction", ()):
        found += paragraphs(each.get("text")) or [line for line in (wording.joined(_dosage(each, wording)),) if line]
        found += paragraphs(each.get("patientInstruction"))
    return found


def _item(record: Record, wording: Wording, request: Json) -> dict[str, Any]:
    status = f"status-{request.get('status')}"
    details = [[wording("reason"), wording.joined(concept(each) for each in request.get("reasonCode", ()))]]
    dispense = request.get("dispenseRequest", {})
    repeats = dispense.get("numberOfRepeatsAllowed")
    details.append([wording("dispense"), quantity(dispense.get("quantity"), wording)])
    details.append([wording("repeats"), wording.number(repeats) if repeats else ""])
    details.append([wording("note"), wording.joined(notes_of(request))])
    substitution = request.get("substitution", {}).get("allowedBoolean")
    if substitution is False:
        details.append([wording("note"), wording("no-substitute")])
    is_marked = status != "status-active" and wording.has(status)
    return {
        "medicine": medicine_of(record, request),
        "mark": wording(status) if is_marked else None,
        "dosage": dosage_lines(request, wording),
        "details": [row for row in details if row[1]],
    }


def _dosage(dosage: Json, wording: Wording) -> Iterator[str]:
    for each in dosage.get("doseAndRate", ())[:1]:
        low, high = (quantity(each.get("doseRange", {}).get(end), wording) for end in ("low", "high"))
        yield quantity(each.get("doseQuantity"), wording) or " – ".join(part for part in (low, high) if part)
    timing = dosage.get("timing", {})
    yield concept(timing.get("code")) or _how_often(timing.get("repeat", {}), wording)
    yield concept(dosage.get("route"))
    if dosage.get("asNeededBoolean") is True:
        yield wording("as-needed")
    elif "asNeededCodeableConcept" in dosage:
        yield f"{wording('as-needed')} ({concept(dosage['asNeededCodeableConcept'])})"
    bounds = timing.get("repeat", {}).get("boundsDuration")
    if bounds:
        key = f"for-{bounds.get('code') or bounds.get('unit')}"
        yield wording(key, wording.number(bounds.get("value"))) if wording.has(key) else quantity(bounds, wording)


def _how_often(repeat: Json, wording: Wording) -> str:
    frequency, period, unit = repeat.get("frequency", 1), repeat.get("period"), repeat.get("periodUnit")
    if period is None or unit is None:
        return ""
    if Decimal(period) == 1 and wording.has(f"times-{unit}"):
        most = repeat.get("frequencyMax")
        return wording(f"times-{unit}", wording.number(frequency) + (f"–{wording.number(most)}" if most else ""))
    if frequency == 1 and wording.has(f"every-{unit}"):
        return wording(f"every-{unit}", wording.number(period))
    return f"{wording.number(frequency)} × / {wording.number(period)} {plain(unit, 10)}"
