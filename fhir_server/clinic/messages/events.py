"""What people are told of: the events, and which of them a change of a resource is, seen from its content before and after. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from fhir_server.search.params.date import parse_date
from fhir_server.settings import CANON

Json = dict[str, Any]
Channel = Literal["email", "sms"]
CHANNELS: Final[tuple[Channel, ...]] = ("email", "sms")

EVENTS: Final = {
    "booked": "An appointment was booked, or asked for by its patient",
    "validated": "The clinic has validated an appointment that its patient had asked for",
    "declined": "The clinic has declined an appointment that its patient had asked for",
    "moved": "An appointment has another time",
    "cancelled": "An appointment was called off",
    "reminder": "An appointment is soon",
    "offered": "A time has become free for somebody on the waiting list",
    "nearly-your-turn": "Only a few wait before somebody",
    "called": "Somebody is called to a room",
    "result-released": "A result can be seen by its patient",
    "prescription-ready": "A prescription was written",
    "leave": "The doctor of an appointment is away at its time",
}
"""With what each means."""

OF_APPOINTMENTS: Final = frozenset({"booked", "validated", "declined", "moved", "cancelled", "reminder", "offered", "leave"})
OF_THE_RECORD: Final = frozenset({"result-released", "prescription-ready"})
"""News for those who look at their record here: whoever has given no address, or wants none, has not missed an appointment by them."""
ENDING: Final = frozenset({"declined", "cancelled"})
AT_ONCE: Final = frozenset({"booked", "validated", "declined", "moved", "cancelled", "called", "nearly-your-turn"})
"""Those that answer what somebody has just asked for or has to know before setting out, and those whose people are in the clinic: no quiet hours."""

HOLD: Final = f"{CANON}/StructureDefinition/hold-expires"
_BOOKED: Final = frozenset({"pending", "booked"})
_OPEN_ORDERS: Final = frozenset({"order", "original-order", "instance-order", "filler-order"})


class Heard(NamedTuple):
    """What a change of an appointment means: an event for its patient or none, and whether all that was planned before is void."""

    event: str | None
    void: bool


def of_appointment(now: Json | None, before: Json | None, zone: ZoneInfo, at: datetime, *, by_patient: bool, by_waiting_list: bool = False) -> Heard:
    """What a change at that time means. Either content is None where there was none, as by a deletion."""
    was, is_ = standing(before), standing(now)
    start, old = start_of(now, zone), start_of(before, zone)
    if was is None:
        listed = (by_waiting_list and before is None) or (before or {}).get("status") == "waitlist"
        return Heard(_begun(now, before, is_, start, at, listed=listed), void=False)
    if is_ is None:
        over = (now or {}).get("status") in ("arrived", "checked-in", "fulfilled", "noshow")
        if over or old is None or old <= at:
            return Heard(None, void=True)
        return Heard("declined" if was == "pending" and now is not None and not by_patient else "cancelled", void=True)
    if start != old:
        return Heard("moved" if start is not None and start > at else None, void=True)
    if was == "pending" and is_ == "booked":
        return Heard("validated" if start is not None and start > at else None, void=False)
    return Heard(None, void=False)


def _begun(now: Json | None, before: Json | None, is_: str | None, start: datetime | None, at: datetime, *, listed: bool) -> str | None:
    if is_ is None:
        offered = listed and now is not None and now.get("status") == "pending" and is_held(now)
        return "offered" if offered and start is not None and start > at else None
    # Somebody who was taken for a no-show, or sent back from the desk, has been told before.
    fresh = (before or {}).get("status") in (None, "proposed", "pending", "waitlist")
    return "booked" if fresh and start is not None and start > at else None


def standing(appointment: Json | None) -> str | None:
    """`pending` or `booked` where an appointment stands in the book; None for a hold, a proposal, and one that is over."""
    if appointment is None or appointment.get("status") not in _BOOKED or is_held(appointment):
        return None
    return str(appointment["status"])


def is_held(appointment: Json) -> bool:
    """Whether it holds a time for a while only."""
    return any(each.get("url") == HOLD for each in appointment.get("extension", ()))


def held_until(appointment: Json, zone: ZoneInfo) -> datetime | None:
    """When a hold ends."""
    found = next((each.get("valueInstant") for each in appointment.get("extension", ()) if each.get("url") == HOLD), None)
    return moment_of(found, zone)


def start_of(appointment: Json | None, zone: ZoneInfo) -> datetime | None:
    """When it begins."""
    return moment_of((appointment or {}).get("start"), zone)


def patient_of(resource: Json | None) -> str | None:
    """The id of the patient of this server's that a resource is about."""
    if resource is None:
        return None
    told = [resource.get("subject", {}), *(each.get("actor", {}) for each in resource.get("participant", ()) if each.get("status") != "declined")]
    for each in told:
        kind, _, identity = str(each.get("reference", "")).partition("/")
        if kind == "Patient" and identity:
            return identity.partition("/")[0]
    return None


def of_report(now: Json | None, before: Json | None, released: Callable[[Json], bool]) -> str | None:
    """Whether a result can be seen by its patient now, and could not before, by `released`."""
    return "result-released" if now is not None and released(now) and not (before is not None and released(before)) else None


def of_prescription(now: Json | None, before: Json | None) -> str | None:
    """Whether a prescription has come to be."""
    return "prescription-ready" if _prescribed(now) and not _prescribed(before) else None


def _prescribed(prescription: Json | None) -> bool:
    return prescription is not None and prescription.get("status") == "active" and prescription.get("intent") in _OPEN_ORDERS


def slip_of(prescription: Json, focus: str) -> str:
    """What one message is about: the slip that a prescription is on, or the prescription itself."""
    group = prescription.get("groupIdentifier", {})
    return f"slip {group.get('system', '')}|{group['value']}" if group.get("value") else focus


def absences(role: Json | None, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """The times at which a PractitionerRole is not available, from the beginning of the first day to the end of the last."""
    found = []
    for each in (role or {}).get("notAvailable", ()):
        during = each.get("during", {})
        try:
            found.append((parse_date(during["start"], zone)[0], parse_date(during["end"], zone)[1]))
        except (KeyError, ValueError, OverflowError):
            continue
    return found


def moment_of(text: Any, zone: ZoneInfo) -> datetime | None:
    """The time that a text names, or the beginning of the day; None where it names none."""
    try:
        return parse_date(text, zone)[0] if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
