"""The rules of a Schedule, read off the resources: its own parameters, the roles and services that are its actors, and the clinic's holidays.

https://hl7.org/fhir/R4/practitionerrole.html, https://hl7.org/fhir/R4/healthcareservice.html
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import holidays

from fhir_server.clinic.acting import content
from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.settings import CANON
from fhir_server.store.ops import Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import CAPACITY, party
from fhir_server.store.rules.scheduling.openings import Piece
from fhir_server.store.snapshot import Snapshot

from . import policies
from .availability import Cutting, Rules, Span, Weekly, visits
from .policies import Practice

PARAMETERS: Final = f"{CANON}/StructureDefinition/scheduling-parameters"
HORIZON: Final = timedelta(days=400)
"""Beyond this nothing is offered by rules."""
_ZONE: Final = "http://hl7.org/fhir/StructureDefinition/timezone"
_NAMESPACE: Final = uuid.UUID("0d7f6a52-8d0c-5f7b-9c1e-3f6d8c0a7b11")
_LOOKED_AT: Final = 100
_MOST_VISITS: Final = 100_000
_MOST_MINUTES: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Plan:
    """A Schedule with its rules; where it `says_so` itself, its Slots are made of them whatever Slots others have written."""

    schedule: Resource
    rules: Rules
    says_so: bool
    capacity: int | None = None
    services: tuple[Resource, ...] = ()


@dataclass
class Planner:
    """Times that rules offer and for which there is no Slot yet, as of a moment; for one look at the record."""

    db: Snapshot
    registry: Registry
    at: datetime
    _plans: dict[str, Plan | None] = field(default_factory=dict)
    _left: int = _MOST_VISITS

    def unwritten(self, ids: Sequence[str], lo: datetime, hi: datetime) -> list[Piece]:
        """Times of these Schedules that overlap a span and no Slot, as Slots without an id, by Schedule. Bounded over all calls."""
        lo, hi = max(lo, self.at - timedelta(days=1)), min(hi, self.at + HORIZON)
        ruled = {identity: plan for identity, plan in self.plans(ids).items() if plan.says_so or not self._is_written(identity)}
        if lo >= hi or not ruled:
            return []
        there: dict[str, list[Piece]] = {}
        for piece in openings.around(self.db.connection, list(ruled), lo - timedelta(days=1), hi + timedelta(days=1)):
            there.setdefault(piece.schedule, []).append(piece)
        found = []
        for identity, plan in ruled.items():
            if self._left <= 0:
                break
            listed = visits(plan.rules, lo - timedelta(minutes=plan.rules.cutting.minutes), hi)
            self._left -= len(listed)
            found += [Piece("", identity, *span, "free", False, ()) for span in apart(listed, there.get(identity, ())) if span.hi > lo]
        return found

    def plans(self, ids: Collection[str]) -> dict[str, Plan]:
        """Those of these Schedules that have rules, with them. Three statements for those that were not asked for before."""
        new = [identity for identity in ids if identity not in self._plans]
        if new:
            self._plans |= dict.fromkeys(new) | _read(self.db, self.registry, new, self.at)
        return {identity: plan for identity in ids if (plan := self._plans[identity]) is not None}

    def _is_written(self, identity: str) -> bool:
        """Whether somebody has written Slots by hand."""
        found = openings.next_slots(self.db.connection, identity, self.at, _LOOKED_AT)
        return any(piece.id != slot_id(identity, Span(piece.lo, piece.hi)) for piece in found)


def slot_id(schedule: str, span: Span) -> str:
    """The id of the Slot of a visit: always the same, so that whoever makes it twice makes one."""
    return str(uuid.uuid5(_NAMESPACE, f"{schedule} {span.lo.astimezone(UTC).isoformat()} {span.hi.astimezone(UTC).isoformat()}"))


def apart(spans: Iterable[Span], pieces: Sequence[Piece]) -> Iterator[Span]:
    """Those times that overlap none of some Slots; both in order."""
    rest = sorted(pieces, key=lambda piece: piece.lo)
    for span in spans:
        while rest and rest[0].hi <= span.lo:
            rest.pop(0)
        if not any(piece.lo < span.hi and piece.hi > span.lo for piece in rest[:50]):
            yield span


def _read(db: Snapshot, registry: Registry, ids: Sequence[str], at: datetime) -> dict[str, Plan | None]:
    schedules = {version.id: content(version) for version in db.read_many([("Schedule", identity) for identity in ids])}
    actors = {identity: [found for each in resource.get("actor", ()) if (found := party(each, registry))] for identity, resource in schedules.items()}
    wanted = {each for found in actors.values() for each in found if each[0] in {"PractitionerRole", "HealthcareService", "Location"}}
    stated = {identity for identity, resource in schedules.items() if _parameters(resource) is not None}
    people = {each[1]: identity for identity in stated for each in actors[identity] if each[0] == "Practitioner"}
    roles: dict[str, list[tuple[str, str]]] = {}
    for person, role in openings.roles_of(db.connection, registry, list(people)) if people else ():
        roles.setdefault(person, []).append(("PractitionerRole", role))
    wanted |= {each for found in roles.values() for each in found}
    known = _known(db, wanted)
    known |= _known(
        db, {found for role in known.values() for each in role.get("healthcareService", ()) if (found := party(each, registry))} - known.keys()
    )
    practice = policies.practice(db.connection)
    plans: dict[str, Plan | None] = {}
    for identity, resource in schedules.items():
        own = [each for each in actors[identity] if each[0] == "PractitionerRole"]
        if not own:
            own = [role for each in actors[identity] for role in roles.get(each[1], ())]
        services = [known[each] for each in actors[identity] if each[0] == "HealthcareService" and each in known]
        places = [known[each] for each in actors[identity] if each[0] == "Location" and each in known]
        plans[identity] = plan_of(resource, [known[each] for each in own if each in known], services, places, registry.zone, practice, at)
    return plans


def _known(db: Snapshot, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Resource]:
    return {(version.type, version.id): content(version) for version in db.read_many(sorted(pairs))}


def plan_of(
    schedule: Resource,
    roles: Sequence[Resource],
    services: Sequence[Resource],
    places: Sequence[Resource],
    zone: ZoneInfo,
    practice: Practice,
    at: datetime,
) -> Plan | None:
    """A Schedule with its rules as of a moment; None where nothing says when anybody is there."""
    said = _parameters(schedule) or {}
    present = [role for role in roles if role.get("active") is not False]
    if schedule.get("active") is False or (roles and not present):
        return None
    zone = _zone([said.get("timezone", [None])[0], *(_extension(place, _ZONE).get("valueCode") for place in places)], zone)
    groups = [
        tuple(_own_weekly(said.get("availableTime", ()))),
        tuple(each for role in present for each in _weekly(role)),
        tuple(each for service in services for each in _weekly(service)),
    ]
    extra = tuple(_periods(said.get("session", ()), zone))
    weekly = tuple(group for group in groups if group)
    if not weekly and not extra:
        return None
    closed = [*said.get("closed", ()), *(each.get("during", {}) for resource in (*present, *services) for each in resource.get("notAvailable", ()))]
    rules = Rules(zone, weekly, tuple(_periods(closed, zone)), days_off(practice, at), extra, _bounds(schedule, present, zone), _cutting(said))
    return Plan(schedule, rules, bool(said), _number(said, "capacity"), tuple(said.get("serviceType", ())))


def days_off(practice: Practice, at: datetime) -> frozenset[date]:
    """The days on which the clinic is closed, of the years that are offered."""
    found = {date.fromisoformat(text) for text in practice.closed}
    if practice.country is not None:
        years = range(at.year, (at + HORIZON).year + 1)
        found |= set(holidays.country_holidays(practice.country, subdiv=practice.subdivision, years=years))
    return frozenset(found)


def is_country(country: str | None, subdivision: str | None) -> bool:
    """Whether the holidays of a place are known, by its codes of ISO 3166; those of no place are."""
    known = holidays.list_supported_countries()
    return subdivision is None if country is None else country in known and (subdivision is None or subdivision in known[country])


def slot_of(plan: Plan, span: Span) -> Resource:
    """The free Slot of a visit, but for its id."""
    identity = plan.schedule["id"]
    resource: Resource = {"resourceType": "Slot", "schedule": {"reference": f"Schedule/{identity}"}, "status": "free"}
    if plan.capacity is not None:
        resource["extension"] = [{"url": CAPACITY, "valuePositiveInt": plan.capacity}]
    if plan.services:
        resource["serviceType"] = list(plan.services)
    return resource | {"start": span.lo.isoformat(), "end": span.hi.isoformat()}


def _parameters(schedule: Resource) -> dict[str, list[Any]] | None:
    """The values of the extension by name, nested ones as such again; None without it."""
    found = next((each for each in schedule.get("extension", ()) if each.get("url") == PARAMETERS), None)
    return None if found is None else _nested(found)


def _nested(extension: Mapping[str, Any]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {"": []}
    for each in extension.get("extension", ()):
        value = next((value for name, value in each.items() if name.startswith("value")), None)
        values.setdefault(each.get("url", ""), []).append(_nested(each) if value is None else value)
    return values


def _cutting(said: Mapping[str, list[Any]]) -> Cutting:
    minutes, before, after = (_number(said, name) for name in ("duration", "bufferBefore", "bufferAfter"))
    return Cutting(minutes or 30, _number(said, "interval") or None, _number(said, "offset") or 0, before or 0, after or 0)


def _number(said: Mapping[str, list[Any]], name: str) -> int | None:
    value = next(iter(said.get(name, ())), None)
    return value if isinstance(value, int) and 0 <= value <= _MOST_MINUTES else None


def _own_weekly(listed: Iterable[Any]) -> Iterator[Weekly]:
    for each in listed:
        yield Weekly(frozenset(each.get("day", ())), _time(next(iter(each.get("start", ())), "")), _time(next(iter(each.get("end", ())), "")))


def _weekly(resource: Resource) -> Iterator[Weekly]:
    for each in resource.get("availableTime", ()):
        whole = each.get("allDay") is True
        start, end = ("", "") if whole else (each.get("availableStartTime", ""), each.get("availableEndTime", ""))
        yield Weekly(frozenset(each.get("daysOfWeek", ())), _time(start), _time(end))


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        return time()


def _periods(listed: Iterable[Mapping[str, Any]], zone: ZoneInfo) -> Iterator[Span]:
    for each in listed:
        lo = parse_date(each["start"], zone)[0] if "start" in each else datetime.min.replace(tzinfo=UTC)
        hi = parse_date(each["end"], zone) if "end" in each else None
        # A day is in it as a whole; a moment ends it.
        end = datetime.max.replace(tzinfo=UTC) if hi is None else hi[1] if "T" not in each["end"] else hi[0]
        if lo < end:
            yield Span(lo, end)


def _bounds(schedule: Resource, roles: Sequence[Resource], zone: ZoneInfo) -> Span | None:
    periods = [schedule.get("planningHorizon"), *(role.get("period") for role in roles[:1] if len(roles) == 1)]
    spans = list(_periods([each for each in periods if each], zone))
    if not spans:
        return None
    return Span(max(span.lo for span in spans), min(span.hi for span in spans))


def _extension(resource: Resource, url: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((each for each in resource.get("extension", ()) if each.get("url") == url), {})
    return found


def _zone(names: Iterable[Any], usual: ZoneInfo) -> ZoneInfo:
    for name in names:
        try:
            if isinstance(name, str) and name:
                return ZoneInfo(name)
        except (ValueError, OSError):
            continue
    return usual
