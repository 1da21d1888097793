"""Which trigger event a change of a resource means to others, seen from its content before and after.

https://www.hl7.eu/refactored/ch10.html (scheduling), https://www.hl7.eu/refactored/ch03.html (patients), ch04 (orders), ch07 (results)
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

HOLD: Final = "/StructureDefinition/hold-expires"
FINAL: Final = frozenset({"final", "amended", "corrected", "appended"})
_TAKEN_BACK: Final = frozenset({"cancelled", "entered-in-error"})
_BOOKED: Final = frozenset({"pending", "booked", "arrived", "checked-in", "fulfilled"})
_LABORATORY: Final = frozenset({"laboratory", "lab", "108252007", "lab-procedure"})
_ORDERS: Final = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
_OPEN: Final = frozenset({"active", "on-hold"})
_ENDED: Final = frozenset({"revoked", "entered-in-error"})


def event_of(resource_type: str, now: Json | None, before: Json | None) -> str | None:
    """The trigger event, as `S13`; None where others need not hear of the change. Either content is None where there was none, as by a deletion."""
    if now is not None and before is not None and _told(now) == _told(before):
        return None
    kinds = {"Appointment": _appointment, "Patient": _patient, "ServiceRequest": _order, "DiagnosticReport": _report}
    return kinds[resource_type](now, before)


def control_of(now: Json | None, before: Json | None) -> str:
    """ORC-1 of an order's change: new, changed, cancelled, held, released."""
    status = (now or {}).get("status")
    was = (before or {}).get("status")
    if now is None or status in _ENDED:
        return "CA"
    if was not in _OPEN:
        return "NW"
    if status == "on-hold":
        return "HD" if was != "on-hold" else "XO"
    return "RL" if was == "on-hold" else "XO"


def _told(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name not in ("meta", "text")}


def _appointment(now: Json | None, before: Json | None) -> str | None:
    status = (now or {}).get("status")
    if before is None or not (_is_booking(before) or before.get("status") == "noshow"):
        return "S12" if now is not None and _is_booking(now) else None
    if now is None or status == "entered-in-error":
        return "S17"
    if status == "cancelled":
        return "S15"
    if status == "noshow":
        return "S26" if before.get("status") != "noshow" else "S14"
    if any(now.get(name) != before.get(name) for name in ("start", "end")):
        return "S13"
    return "S14" if _is_booking(now) else None


def _is_booking(appointment: Json) -> bool:
    """Whether it stands in a book: a hold, a proposal and a place on a waiting list do not."""
    held = any(str(each.get("url", "")).endswith(HOLD) for each in appointment.get("extension", ()))
    return appointment.get("status") in _BOOKED and not held


def _patient(now: Json | None, before: Json | None) -> str | None:
    if now is None:
        return None
    if before is None:
        return "A28"
    return "A40" if survivor_of(now) not in (None, survivor_of(before)) else "A31"


def survivor_of(patient: Json) -> str | None:
    """The reference to the record that has taken the place of this one, as after a merge."""
    found = (each.get("other", {}).get("reference") for each in patient.get("link", ()) if each.get("type") == "replaced-by")
    return next(found, None)


def _order(now: Json | None, before: Json | None) -> str | None:
    there = now or before or {}
    if there.get("intent") not in _ORDERS or not _is_laboratory(there):
        return None
    was_open = before is not None and before.get("status") in _OPEN
    if now is None or now.get("status") in _ENDED:
        return "O21" if was_open else None
    return "O21" if now.get("status") in _OPEN else None


def _is_laboratory(order: Json) -> bool:
    """By its category; without one by its code, since laboratories are what LOINC is used with."""
    codes = [str(coding.get("code", "")) for category in order.get("category", ()) for coding in category.get("coding", ())]
    if codes:
        return any(code.lower() in _LABORATORY for code in codes)
    return any(coding.get("system") == "http://loinc.org" for coding in order.get("code", {}).get("coding", ()))


def _report(now: Json | None, before: Json | None) -> str | None:
    was_final = before is not None and before.get("status") in FINAL
    if now is None:
        return None
    return "R01" if now.get("status") in FINAL or (was_final and now.get("status") in _TAKEN_BACK) else None
