"""What a message says: the values for its text, from the record as it is when the message leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time

from fhir_server.clinic.acting import resource_of
from fhir_server.search import SYSTEM
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection

from . import events
from .calendar import Entry
from .events import ENDING, OF_APPOINTMENTS, Json
from .recipients import given_name, languages
from .rows import Message
from .rules import Rules
from .templates import Rendered, Template, chosen, rendered

_LENGTH: Final = timedelta(minutes=15)  # Of an appointment without an end.
_WITHOUT_ENTRY: Final = frozenset({"offered", "leave", "reminder"})


@dataclass(frozen=True, slots=True)
class Scene:
    """What a message is about, as it is now: the patient, and the resource with its version; `focus` is None where that was deleted."""

    patient: Json | None
    focus: Json | None
    version: int


@dataclass(frozen=True, slots=True)
class Links:
    """Where a message leads: to the sign-in, and to where such messages are stopped. Empty where the server does not know its own address."""

    portal: str
    stop: str


def scene_of(store: Store, message: Message) -> Scene:
    """Two statements."""
    kind, _, identity = message.focus.partition("/")
    with store.latest(SYSTEM) as db:
        focus = db.read(kind, identity)
        patient = db.read("Patient", message.patient)
    return Scene(resource_of(patient), resource_of(focus), focus.version if focus is not None else 0)


def still_true(message: Message, scene: Scene, zone: ZoneInfo) -> bool:
    """Whether what a message tells is so: the appointment stands, at the time that the message names."""
    focus = scene.focus
    if message.event not in OF_APPOINTMENTS:
        return focus is not None and focus.get("status") not in ("cancelled", "entered-in-error", "stopped")
    if message.event in ENDING:
        return focus is None or focus.get("status") in ("cancelled", "entered-in-error")
    if focus is None or events.start_of(focus, zone) != message.start or events.patient_of(focus) != message.patient:
        return False
    if message.event == "offered":
        return focus.get("status") == "pending"
    # A request that nobody has validated is nothing to be reminded of.
    wanted = ("booked",) if message.event in ("validated", "reminder") else ("pending", "booked")
    return events.standing(focus) in wanted


def worded(connection: Connection, store: Store, message: Message, scene: Scene, links: Links, rules: Rules, zone: ZoneInfo) -> Rendered:
    """The text that counts for the event, in the patient's language, with its gaps filled. Raises Outcome `invalid`."""
    template = chosen(connection, message.event, message.channel, (*languages(scene.patient or {}), rules.language))
    return rendered(template, values_of(template, store, message, scene, links, rules, zone))


def values_of(
    template: Template, store: Store, message: Message, scene: Scene, links: Links, rules: Rules, zone: ZoneInfo
) -> Mapping[str, str | bool]:
    """What fills the gaps of a text."""
    details: dict[str, Any] = json.loads(message.details) if message.details else {}
    found: dict[str, str | bool] = {
        "clinic": rules.clinic,
        "name": given_name(scene.patient or {}),
        "practitioner": _practitioner(store, scene.focus),
        "pending": bool(details.get("pending")) and (scene.focus or {}).get("status") == "pending",
        "link": links.portal,
        "stop": links.stop,
        "token": str(details.get("token", "")),
        "room": str(details.get("room", "")),
    }
    if message.start is not None:
        found["day"], found["time"] = in_words(message.start, template.language, zone)
    if "old" in details:
        found["old_day"], found["old_time"] = in_words(datetime.fromisoformat(str(details["old"])), template.language, zone)
    if "until" in details:
        found["until"] = in_words(datetime.fromisoformat(str(details["until"])), template.language, zone)[1]
    return found


def entry_of(message: Message, scene: Scene, made: Rendered, links: Links, sender: str, to: str, at: datetime, zone: ZoneInfo) -> Entry | None:
    """The entry for calendars that a mail about an appointment carries; None for other messages."""
    if message.event not in OF_APPOINTMENTS - _WITHOUT_ENTRY or message.start is None:
        return None
    focus = scene.focus or {}
    end = events.moment_of(focus.get("end"), zone)
    lasting = end is not None and events.start_of(focus, zone) == message.start
    status = events.standing(scene.focus)
    return Entry(
        message.focus.partition("/")[2],
        scene.version,
        message.start,
        end if lasting and end is not None else message.start + _LENGTH,
        "CANCELLED" if message.event in ENDING else "CONFIRMED" if status == "booked" else "TENTATIVE",
        made.subject or "",
        links.portal,
        sender,
        to,
        at,
    )


def in_words(moment: datetime, language: str, zone: ZoneInfo) -> tuple[str, str]:
    """A day and a time of day by the clinic's clock, as people write them in a language."""
    try:
        locale = Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        locale = Locale("en")
    local = moment.astimezone(zone)
    # American English writes 9:20 PM; a clinic's clock has 24 hours.
    return format_date(local, "full", locale), format_time(local, "HH:mm", locale=locale)


def _practitioner(store: Store, focus: Json | None) -> str:
    named = [each.get("actor", {}) for each in (focus or {}).get("participant", ())]
    for each in named:
        kind, _, identity = str(each.get("reference", "")).partition("/")
        if kind == "Practitioner":
            if each.get("display"):
                return str(each["display"])
            with store.latest(SYSTEM) as db:
                return _name(db, identity)
    return ""


def _name(db: Snapshot, practitioner: str) -> str:
    found = next((resource_of(each) for each in db.read_many([("Practitioner", practitioner)])), None)
    name: Json = next(iter((found or {}).get("name", ())), {})
    return str(name.get("text") or " ".join([*name.get("prefix", ()), *name.get("given", ())[:1], str(name.get("family", ""))])).strip()
