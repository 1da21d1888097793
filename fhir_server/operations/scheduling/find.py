"""$find: free times as proposed Appointments, the soonest first. https://hl7.org/fhir/R4/appointment.html"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act, content
from fhir_server.clinic.scheduling.booking import sight_of, times
from fhir_server.clinic.scheduling.offers import Offer, Wanted, offers
from fhir_server.clinic.scheduling.rules import Planner
from fhir_server.clinic.scheduling.times import Time
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.searchset import searchset
from fhir_server.operations.parameters import Inputs
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.snapshot import Snapshot

_WHO: Final = {"schedule": ("Schedule",), "practitioner": ("Practitioner", "PractitionerRole"), "location": ("Location",)}
_NAMES: Final = ("start", "end", "duration", "_count", *_WHO, "service-type")
_USUAL: Final = 50
_MOST: Final = 500
_LONGEST: Final = 24 * 60
_NAMESPACE: Final = uuid.UUID("5f3b2d2e-5d0a-4c1e-9a65-2f7d0a0c5c11")


def find(engine: Engine, exchange: Exchange) -> Reply:
    """200 and a searchset Bundle. Raises Outcome `parameter`, and `forbidden` for callers who see no Slots.

    Each lookup of some days takes four statements. What is held or booked, what is over, and what the caller may not see is not there.
    """
    if not exchange.grant.allows("Slot", "r") or not exchange.grant.allows("Schedule", "r"):
        raise Outcome("forbidden", "The token does not allow to read Schedule and Slot")
    given = Inputs(engine, exchange, _NAMES, several=(*_WHO, "service-type"))
    start, end = given.needed("start", given.moment("start")), given.needed("end", given.moment("end"))
    if end <= start:
        raise Outcome("parameter", "The parameter 'end' is later than 'start'", code="value")
    length, count = given.number("duration"), given.number("_count")
    if length is not None and not 0 < length <= _LONGEST:
        raise Outcome("parameter", f"The parameter 'duration' is from 1 to {_LONGEST:,} minutes", code="value")
    who = {name: given.references(name, *types) for name, types in _WHO.items()}
    services = given.codes("service-type")
    if not services and not any(who.values()):
        raise Outcome("parameter", f"One of the parameters {', '.join((*_WHO, 'service-type'))} is needed", code="required")
    duration = timedelta(minutes=length) if length is not None else None
    with engine.store.snapshot(SYSTEM) as db:
        ids = openings.schedules(
            db.connection,
            [each.partition("/")[2] for each in who["schedule"]] or None,
            who["practitioner"] or None,
            who["location"] or None,
            services or None,
        )
        known = {each.id: content(each) for each in db.seen_by(exchange.grant).read_many([("Schedule", identity) for identity in ids])}
        general = openings.serving(db.connection, ids, services) if services else frozenset()
        wanted = Wanted([each for each in ids if each in known], start, end, duration, frozenset(services) if services else None, general)
        planner = Planner(db, engine.registry, engine.store.clock())
        found = offers(planner, wanted, sight_of(db, Act("find", exchange.grant)))
        most = min(_USUAL if count is None else count, _MOST)
        listed = list(islice(found, most + 1))
        shown = listed[:most]
        entries = [_entry(offer, each) for offer, each in zip(shown, _proposed(engine, db, shown, known), strict=True)]
    return searchset(exchange, "Appointment/$find", exchange.params, entries, len(listed) if len(listed) <= most else None, None)


def _proposed(engine: Engine, db: Snapshot, found: Iterable[Offer], schedules: Mapping[str, Resource]) -> Iterable[Resource]:
    listed = list(found)
    slots = {
        each.id: content(each) for each in db.read_many([("Slot", identity) for identity in {offer.pieces[0].id for offer in listed} if identity])
    }
    for offer in listed:
        schedule, slot = schedules[offer.schedule], slots.get(offer.pieces[0].id, {})
        resource: dict[str, Any] = {"resourceType": "Appointment", "status": "proposed"}
        for name in ("serviceCategory", "serviceType", "specialty"):
            if value := slot.get(name) or schedule.get(name):
                resource[name] = value
        if "appointmentType" in slot:
            resource["appointmentType"] = slot["appointmentType"]
        resource |= times(Time(offer.lo, offer.hi, (offer.schedule,), offer.pieces), engine.registry)
        resource["participant"] = [{"actor": actor, "required": "required", "status": "needs-action"} for actor in schedule["actor"]]
        yield resource


def _entry(offer: Offer, resource: Resource) -> bytes:
    url = uuid.uuid5(_NAMESPACE, f"{offer.schedule} {resource['start']} {resource['end']}").urn
    return b'{"fullUrl":"' + url.encode() + b'","resource":' + fhirjson.dumps(resource) + b',"search":{"mode":"match"}}'
