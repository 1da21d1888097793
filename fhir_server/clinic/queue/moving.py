"""Through the queue: triage, the next call, and what happens to somebody who waits or is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Put
from fhir_server.store.rules.queueing import queue
from fhir_server.store.rules.queueing.following import priority, with_priority
from fhir_server.store.rules.queueing.queue import Entry, Happened, Standing, State

from . import visits
from .order import EMERGENCY, SKIPPED_FOR, Limits, in_order, rank
from .places import limits_at, open_place, roles
from .telling import tell

Json = dict[str, Any]

UNDO_WITHIN: Final = timedelta(minutes=10)
REASSESS: Final = 10
"""Minutes after which an emergency that still waits is to be looked at again."""
_TRIES: Final = 3
_FEW: Final = 8
"""So many of each zone are looked at to find who is next, and who comes after them; all only where somebody is at each of these."""
_KEPT: Final = ("status", "period", "location", "identifier", "participant")
"""Elements that events change, and that undoing brings back."""


@dataclass(frozen=True, slots=True)
class Move:
    """What an event does: from which states, to which, and the status that the Encounter gets, None to keep it."""

    begins: frozenset[State]
    state: State
    status: str | None = None
    ending: str | None = None


_HERE: Final[frozenset[State]] = frozenset({"waiting", "called", "in-service", "paused"})
EVENTS: Final[Mapping[str, Move]] = {
    "start": Move(frozenset({"waiting", "called"}), "in-service", "in-progress"),
    "complete": Move(frozenset({"in-service", "paused"}), "ended", "finished", "completed"),
    "recall": Move(frozenset({"waiting", "called"}), "called"),
    "skip": Move(frozenset({"called"}), "waiting"),
    "pause": Move(frozenset({"in-service"}), "paused", "onleave"),
    "resume": Move(frozenset({"paused"}), "in-service", "in-progress"),
    "transfer": Move(_HERE, "waiting"),
    "left": Move(_HERE, "ended", "cancelled", "left"),
}


def triage(store: Store, act: Act, encounter: str, zone: str, reason: str) -> Commit:
    """The Encounter with a zone that somebody has given it, `triaged`. What was waited stays.

    Raises Outcome `not-found` and `gone`, `forbidden` where somebody who is no clinician lowers the zone, and `business-rule` where nobody waits.
    """
    act.require("Encounter", "u")

    def prepare(connection: Connection, db: Snapshot) -> list[Op]:
        resource, entry = _found(connection, db, act, encounter)
        if entry.state not in {"waiting", "called"} or resource["status"] not in {"arrived", "triaged"}:
            raise Outcome("business-rule", f"An Encounter that is {resource['status']} is not triaged any more", expression="Encounter.status")
        lowers = rank(zone) > rank(entry.zone)
        if lowers and not act.is_clinical:
            raise Outcome("forbidden", f"Only clinicians lower a zone: this one is {entry.zone}")
        now = store.clock()
        minutes = REASSESS if zone == EMERGENCY else limits_at(connection, entry.location)[zone].target
        assigned = entry.assigned if zone == entry.zone else now
        by = act.grant.user if (act.grant.user or "").startswith("Practitioner/") else None
        extension = priority(zone, assigned, "override" if lowers else "triage", by, reason, now + timedelta(minutes=minutes))
        after = replace(entry, zone=zone, assigned=assigned)
        queue.save(connection, after, Happened("triage", now, act.grant.actor, reason))
        return [Put(visits.with_status(with_priority(resource, extension), "triaged", now, entry), encounter)]

    return carry_out(store, act, prepare)


def call_next(store: Store, act: Act, location: str, practitioner: str | None = None, room: str | None = None) -> Commit:
    """The Encounter of whoever is next, called; never the same for two callers. `practitioner` is a reference.

    Raises Outcome `not-found` where nobody waits, or there is no such Location, `forbidden` where a doctor does not work there or calls for another.
    """
    act.require("Encounter", "u")
    own = act.grant.user if (act.grant.user or "").startswith("Practitioner/") else None

    def prepare(connection: Connection, db: Snapshot) -> list[Op]:
        open_place(db, act, location)
        if not act.is_desk:
            _check_works(store, connection, db, act, location, practitioner)
        now = store.clock()
        entry, others = _next(connection, db.seen_by(act.grant), location, now)
        version = db.read("Encounter", entry.encounter)
        assert version is not None
        resource, who = content(version), practitioner or (own if act.is_clinical else None)
        after = replace(queue.moved(entry, "called", now), called=entry.called or now, room=room, practitioner=who, skipped=None)
        queue.save(connection, after, Happened("call", now, act.grant.actor, before=_before(entry, resource)))
        tell(connection, after, now, others)
        return [Put(visits.with_member(resource, who, now), entry.encounter)]

    return carry_out(store, act, prepare)


def happen(store: Store, act: Act, encounter: str, event: str, location: str | None = None, reason: str | None = None) -> Commit:
    """The Encounter after an event of EVENTS, or with the last one undone by `undo`; `location` is where a transfer leads.

    Raises Outcome `not-found` and `gone`, `forbidden`, `parameter` for an unknown event, and `business-rule` for one that is not possible now.
    """
    act.require("Encounter", "u")

    def prepare(connection: Connection, db: Snapshot) -> list[Op]:
        if event == "undo":
            resource, entry = _found(connection, db, act, encounter, is_open=False)
            return [Put(_undone(connection, resource, entry, store.clock(), act), encounter)]
        resource, entry = _found(connection, db, act, encounter)
        move = EVENTS[event]
        if entry.state not in move.begins or (event == "recall" and entry.called is None):
            raise Outcome("business-rule", f"There is no `{event}` for somebody who is {entry.state}", expression="Encounter.status")
        now = store.clock()
        before = _before(entry, resource)
        after = _after(entry, event, move, now)
        if event == "transfer":
            after, resource = _transferred(store, connection, db, act, (after, resource), location, now)
        changed = visits.with_status(resource, move.status or resource["status"], now, after)
        if event == "start":
            own = act.grant.user if act.is_clinical and (act.grant.user or "").startswith("Practitioner/") else None
            after = replace(after, practitioner=entry.practitioner or own)
            changed = visits.with_member(changed, after.practitioner, now)
        queue.save(connection, after, Happened(event, now, act.grant.actor, reason, before), entry.location)
        if event == "recall":
            tell(connection, after, now)
        return [Put(changed, encounter)]

    return carry_out(store, act, prepare)


def _after(entry: Entry, event: str, move: Move, now: datetime) -> Entry:
    if move.ending is not None:
        return queue.ended(entry, move.ending, now)
    after = queue.moved(entry, move.state, now)
    if event == "recall":
        return replace(after, recalls=entry.recalls + 1, skipped=None)
    return replace(after, skipped=now) if event == "skip" else after


def _transferred(
    store: Store, connection: Connection, db: Snapshot, act: Act, what: tuple[Entry, Json], location: str | None, now: datetime
) -> tuple[Entry, Json]:
    entry, resource = what
    if location is None:
        raise Outcome("parameter", "A transfer needs the `location` that it leads to", code="required")
    if location == entry.location:
        raise Outcome("business-rule", f"They stand in the queue of Location/{location} already")
    day = queue.day_at(open_place(db, act, location), now, store.registry.zone)
    after = queue.sent_on(replace(entry, location=location, day=day, token=queue.token(connection, location, day)), now)
    return after, visits.moved_on(resource, after, now)


def _found(connection: Connection, db: Snapshot, act: Act, encounter: str, *, is_open: bool = True) -> tuple[Json, Entry]:
    """An Encounter and its entry, locked. Raises Outcome `not-found`, `gone`, and `business-rule` for one that does not stand in a queue."""
    queue.lock(connection, encounter)
    visible(db, act, "Encounter", encounter)
    # What is hidden from the caller is written back too.
    version = db.read("Encounter", encounter)
    assert version is not None
    resource = content(version)
    entry = next((entry for entry, _ in queue.entries(connection, [encounter])), None)
    if entry is None or (is_open and entry.state == "ended"):
        raise Outcome("business-rule", f"Encounter/{encounter}, which is {resource['status']}, stands in no queue", expression="Encounter.status")
    return resource, entry


def _next(connection: Connection, seen: Snapshot, location: str, now: datetime) -> tuple[Entry, list[Standing]]:
    """Locks whoever is next of those at whom nobody else is; waits for the first where somebody is at each. The others in their order besides.

    Whose visit is closed to the caller, as by a Consent, is not theirs to call.
    """
    limits: Mapping[str, Limits] = limits_at(connection, location)
    for attempt in range(1 + _TRIES):
        if attempt:
            waiting = [entry for entry in queue.standing(connection, location) if entry.state == "waiting"]
        else:
            waiting = queue.first(connection, location, now - SKIPPED_FOR, _FEW)
        theirs = seen.open_ids("Encounter", [entry.encounter for entry in waiting])
        ordered = in_order((entry for entry in waiting if entry.encounter in theirs), now, limits)
        for entry in ordered:
            if (taken := queue.take(connection, entry, wait=False)) is not None:
                return taken, [each for each in ordered if each is not entry]
        if not waiting:
            break
        if attempt and ordered and (taken := queue.take(connection, ordered[0], wait=True)) is not None:
            return taken, ordered[1:]
    raise Outcome("not-found", f"Nobody waits at Location/{location}")


def _check_works(store: Store, connection: Connection, db: Snapshot, act: Act, location: str, practitioner: str | None) -> None:
    own = act.grant.user
    if own is None or not roles(store, connection, db, own, location):
        raise Outcome("forbidden", f"A doctor calls where a PractitionerRole of theirs is active; none is at Location/{location}")
    if practitioner is not None and practitioner != own:
        raise Outcome("forbidden", "A doctor calls for themself; staff call for others")


def _before(entry: Entry, resource: Json) -> str:
    kept = {name: resource[name] for name in _KEPT if name in resource}
    return json.dumps({"entry": asdict(entry), "encounter": fhirjson.dumps(kept).decode()}, default=lambda value: value.isoformat())


def _undone(connection: Connection, resource: Json, entry: Entry, now: datetime, act: Act) -> Json:
    last = queue.last_event(connection, entry.encounter)
    if last is None or last[4] is None:
        raise Outcome("business-rule", "There is no event that could be undone")
    number, event, at, state, before = last
    if at < now - UNDO_WITHIN:
        raise Outcome("business-rule", f"An event can be undone within {UNDO_WITHIN.seconds // 60} minutes")
    if entry.state != state:
        raise Outcome("business-rule", "The Encounter has been changed since by other ways")
    kept = json.loads(str(before))
    restored = replace(_entry(kept["entry"]), patient=entry.patient, zone=entry.zone, assigned=entry.assigned)
    queue.undone(connection, number)
    queue.save(connection, restored, Happened("undo", now, act.grant.actor, f"undone: {event}"), entry.location)
    old: Json = fhirjson.loads(kept["encounter"].encode())
    # The status that it comes back to was reached before; its history goes on.
    found = visits.with_status(resource, old["status"], now, restored)
    return {name: value for name, value in found.items() if name not in _KEPT} | old


def _entry(kept: Json) -> Entry:
    moments: dict[str, Callable[[str], Any]] = {"day": date.fromisoformat}
    moments |= dict.fromkeys(("assigned", "credit", "arrived", "changed", "called", "started", "ended", "skipped", "alerted"), datetime.fromisoformat)
    return Entry(**{name: moments[name](value) if name in moments and value is not None else value for name, value in kept.items()})
