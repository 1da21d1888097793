"""The waiting list: who wants a time that is not free is offered one that becomes so, by turns, and has it for a while to take it.

https://hl7.org/fhir/R4/appointment.html

An offer is a hold of its own, which names the Appointment on the list; it occupies its time, so there is one at a time. Whoever lets it expire stays
on the list and is not offered the same time again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import moment
from fhir_server.store.snapshot import Snapshot

from . import policies
from .booking import HOLD_EXPIRES, OFFERED_BY, Asked, carried, participants, sight_of, times, whose
from .offers import Offer, Wanted, offers
from .rules import Planner
from .times import Time, parties_of, span_of

_MOST: Final = 200
_MOST_TRIES: Final = 50
_USUAL: Final = timedelta(minutes=30)
_LOWEST: Final = 10
_BY_CLOCK: Final = replace(SYSTEM, actor=OFFERED_BY)


def join(store: Store, act: Act, asked: Asked) -> Commit:
    """Puts somebody on the list: an Appointment of status `waitlist`, with when it may be as its `requestedPeriod`.

    Raises Outcome `invalid` without a time or without anybody who takes part, and `forbidden` and `not-found` as `booking.book`.
    """
    act.require("Appointment", "c")
    given = asked.appointment
    if given is None:
        raise Outcome("parameter", "The parameter 'appointment' is needed", code="required")
    patient = whose(act, asked.patient)
    if patient is None:
        raise Outcome("parameter", "The parameter 'patient' is needed", code="required")
    length = _length(given)
    periods = given.get("requestedPeriod") or [{"start": given.get("start"), "end": given.get("end")}]
    if any(lo is None or hi is None or hi - lo < length for lo, hi in _spans(periods)):
        raise Outcome("invalid", "A requestedPeriod has a start, and an end that leaves time for the visit", expression="Appointment.requestedPeriod")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        visible(db, act, "Patient", patient)
        parties = parties_of(given, store.registry)
        ids = openings.schedules(connection, None, parties, None, None) if parties else []
        seen = db.seen_by(act.grant).read_many([("Schedule", identity) for identity in ids])
        if not seen:
            raise Outcome("business-rule", "Nobody who takes part has a Schedule; there is nothing to wait for", expression="Appointment.participant")
        resource = carried(act, given) | {"status": "waitlist", "created": instant(store.clock()), "requestedPeriod": periods}
        resource["minutesDuration"] = int(length.total_seconds() // 60)
        if isinstance(given.get("priority"), int) and act.patient is None:
            resource["priority"] = given["priority"]
        own = [each for each in given.get("participant", ()) if not str(each.get("actor", {}).get("reference", "")).startswith("Patient/")]
        listed = [{"actor": each["actor"], "required": "required", "status": "needs-action"} for each in own if "actor" in each]
        who = {"actor": {"reference": f"Patient/{patient}"}, "required": "required", "status": "accepted"}
        return [Create(resource | {"participant": [*listed, who]})]

    return carry_out(store, act, prepare)


def offer_free(store: Store) -> int:
    """Offers what is free to those who wait, by their priority and then by how long they have waited; how many offers were made."""
    with store.snapshot(SYSTEM) as db:
        waiting = openings.waiting(db.connection, store.registry, _MOST)
        known = [content(version) for version in db.read_many([("Appointment", identity) for identity in waiting])]
    ordered = sorted(known, key=lambda each: (each.get("priority") or _LOWEST, each.get("created", ""), each["id"]))
    return sum(_offer(store, each) for each in ordered)


def _offer(store: Store, entry: Resource) -> bool:
    """Whether somebody who waits was made an offer."""
    done: list[bool] = []

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        done.clear()
        at = store.clock()
        openings.lock(connection, store.registry.types["Appointment"], entry["id"])
        now = db.read("Appointment", entry["id"])
        if now is None or now.body is None or content(now).get("status") != "waitlist" or openings.has_offer(connection, entry["id"], at):
            return []
        found = _first(store, connection, db, entry, at)
        if found is None:
            return []
        until = at + timedelta(minutes=policies.practice(connection).offer_minutes)
        openings.note_offer(connection, entry["id"], found.schedule, found.lo, until)
        done.append(True)
        return [Create(_held(store, db, entry, found, until))]

    try:
        carry_out(store, Act("hold", _BY_CLOCK), prepare)
    except Outcome as refused:
        if refused.category == "unavailable":
            raise
        return False
    return bool(done)


def _first(store: Store, connection: Connection, db: Snapshot, entry: Resource, at: datetime) -> Offer | None:
    """The soonest free time that somebody waits for and was not offered before."""
    ids = openings.schedules(connection, None, parties_of(entry, store.registry), None, None)
    planner, act = Planner(db, store.registry, at), Act("hold", _BY_CLOCK)
    for lo, hi in _spans(entry.get("requestedPeriod", ())):
        if lo is None or hi is None or hi <= at:
            continue
        wanted = Wanted(ids, max(lo, at), hi, timedelta(minutes=entry["minutesDuration"]))
        for number, offer in enumerate(offers(planner, wanted, sight_of(db, act))):
            if number == _MOST_TRIES:
                break
            if not openings.was_offered(connection, entry["id"], offer.schedule, offer.lo):
                return offer
    return None


def _held(store: Store, db: Snapshot, entry: Resource, found: Offer, until: datetime) -> Resource:
    act = Act("hold", _BY_CLOCK)
    patient = next(
        reference.removeprefix("Patient/")
        for each in entry["participant"]
        if (reference := each.get("actor", {}).get("reference", "")).startswith("Patient/")
    )
    resource = carried(act, entry) | times(Time(found.lo, found.hi, (found.schedule,), found.pieces), store.registry)
    resource |= {"status": "pending", "created": instant(store.clock())}
    resource["extension"] = [{"url": HOLD_EXPIRES, "valueInstant": instant(until)}]
    resource["supportingInformation"] = [{"reference": f"Appointment/{entry['id']}"}]
    listed = participants(act, db, (found.schedule,), {}, patient, store.registry)
    resource["participant"] = [*({**each, "status": "needs-action"} for each in listed[:-1]), listed[-1]]
    return resource


def _length(given: Resource) -> timedelta:
    minutes = given.get("minutesDuration")
    if isinstance(minutes, int) and 0 < minutes <= 24 * 60:
        return timedelta(minutes=minutes)
    if "start" not in given or given.get("requestedPeriod"):
        return _USUAL
    lo, hi = span_of(given)
    return hi - lo


def _spans(periods: Sequence[Resource]) -> list[tuple[datetime | None, datetime | None]]:
    return [(moment(each.get("start")), moment(each.get("end"))) for each in periods]


__all__ = ["join", "offer_free"]
