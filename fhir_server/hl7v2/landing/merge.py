"""Two records that turned out to be of one person: what ADT^A40, and A18 and A34 before it, make of them. Pure, but for what refers to the one.

The one who stays gets the numbers of the other as old ones, so that later messages and searches by them come to the one who stays. The other is kept
without numbers, inactive, with a link to the one who stays, who has a link back. All that was about the other is about the one who stays.
https://www.hl7.eu/refactored/ch03.html (A40), https://hl7.org/fhir/R4/patient.html#links
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.hl7v2.mapping import Made
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.search import Grant
from fhir_server.search.params.date import parse_date
from fhir_server.store import Store, relink
from fhir_server.store.ops import Put, Version
from fhir_server.store.rules.scheduling.claims import HOLDING, OVERBOOKED, overbooked

Json = dict[str, Any]

_URN: Final = "urn:hl7v2:"
_BEFORE: Final = frozenset({"Patient", "Provenance", "AuditEvent"})
"""Types that tell of what was: whom a patient was merged into, what was done to which record."""
_BOOKED: Final = "Appointment"
_WHY: Final = "Two records turned out to be of one patient, who was booked for this time in both"
_UTC: Final = ZoneInfo("UTC")


def survivor_of(made: Made) -> int | None:
    """The number of the patient in the same message whom this one is merged into; None for one who is not."""
    found = replaced_by(made.resource)
    return int(found.removeprefix(_URN)) if found.startswith(_URN) else None


def replaced_by(body: Json) -> str:
    """The reference to the patient who took the place of one, empty where nobody has."""
    return next((str(link.get("other", {}).get("reference", "")) for link in body.get("link", ()) if link.get("type") == "replaced-by"), "")


def replaces(body: Json) -> list[Json]:
    """The links to those whose place a patient took."""
    return [link for link in body.get("link", ()) if link.get("type") == "replaces"]


def apart(losers: Mapping[int, int], found: dict[int, list[Version]]) -> None:
    """Takes from what was found for those who stay whom their message names as merged: some senders repeat the old number in PID-3."""
    for loser, survivor in losers.items():
        others = {version.id for version in found.get(loser, ())}
        kept = [version for version in found.get(survivor, ()) if version.id not in others]
        if kept:
            found[survivor] = kept


def old_numbers(survivor: Sequence[Json], loser: Iterable[Json]) -> list[Json]:
    """The identifiers that the one who stays gets: those of the other, as old ones, without what both have."""
    known = {(each.get("system"), each.get("value")) for each in survivor}
    found: dict[tuple[Any, Any], Json] = {}
    for each in loser:
        number = (each.get("system"), each.get("value"))
        if number not in known:
            found.setdefault(number, {**each, "use": "old"})
    return list(found.values())


def moved(store: Store, grant: Grant, merged: Mapping[str, str]) -> list[Put]:
    """What refers to patients who were merged, referring to those who stay; both by their ids.

    Somebody who was booked twice for one time, once in each record, stays so: both appointments are kept, and the one that is moved is overbooked.
    """
    found: dict[tuple[str, str], tuple[Version, Json]] = {}
    for loser, survivor in merged.items():
        with store.latest(grant) as db:
            versions = db.referring("Patient", loser)
        links = {f"Patient/{loser}": f"Patient/{survivor}", **{f"{base}/Patient/{loser}": f"Patient/{survivor}" for base in store.bases}}
        for version in versions:
            if version.type in _BEFORE or version.body is None:
                continue
            # What refers to several of them is changed for each.
            before = found.get((version.type, version.id), (version, fhirjson.loads(version.body)))[1]
            after = relink(before, links)
            if after is not before:
                found[version.type, version.id] = (version, after)
    puts = [Put(body, version.id, if_match=str(version.version)) for version, body in found.values()]
    mine = [put for put in puts if put.resource["resourceType"] == _BOOKED and any(True for _ in _spans([put.resource]))]
    if mine:
        _overbook(mine, [body for survivor in set(merged.values()) for body in _booked(store, grant, survivor)])
    return puts


def clashes(ops: Iterable[Put]) -> list[Fault]:
    """What is told of appointments that a merge has laid over others."""
    over = sum(each.resource["resourceType"] == _BOOKED and overbooked(each.resource) == _WHY for each in ops)
    text = f"The patient has {over} appointments at times of others, which stood in two records; see which are to stay"
    return [Fault("205", text, severity="W", application="booked-twice")] if over else []


def _booked(store: Store, grant: Grant, patient: str) -> list[Json]:
    with store.latest(grant) as db:
        return [fhirjson.loads(version.body) for version in db.referring("Patient", patient) if version.type == _BOOKED and version.body is not None]


def _overbook(moving: Sequence[Put], there: Sequence[Json]) -> None:
    """Marks those of the appointments that are moved which overlap one that is there, or one that is moved before."""
    taken = list(_spans(there))
    for put in moving:
        for start, end in list(_spans([put.resource])):
            if any(start < other_end and other_start < end for other_start, other_end in taken) and overbooked(put.resource) is None:
                mark = {"url": OVERBOOKED, "valueString": _WHY}
                put.resource = {**put.resource, "extension": [*put.resource.get("extension", ()), mark]}
            taken.append((start, end))


def _spans(appointments: Iterable[Json]) -> Iterator[tuple[Any, Any]]:
    """From when to when each of them holds a time, those that hold none left out."""
    for each in appointments:
        if each.get("status") in HOLDING and "start" in each and "end" in each:
            yield parse_date(each["start"], _UTC)[0], parse_date(each["end"], _UTC)[0]
