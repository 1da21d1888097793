"""What the queue has to do with a write, by whatever door it came, and in its own transaction.

Entries follow their Encounters, moves of status are held to the queue's table, and a vital sign that is a red flag makes whoever waits an emergency.

https://hl7.org/fhir/R4/encounter.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.settings import CANON
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.writing.content import instant
from fhir_server.store.writing.current import following
from fhir_server.store.writing.links import local
from fhir_server.store.writing.plan import BY_SERVER, Target, Writer

from . import queue
from .queue import Entry, Happened, State
from .red_flags import flagged

PRIORITY: Final = f"{CANON}/StructureDefinition/queue-priority"
ZONE: Final = f"{CANON}/CodeSystem/queue-zone"
EMERGENCY: Final = "emergency"
_DISPLAYS: Final = {EMERGENCY: "Red \u2013 Emergency", "follow-up": "Orange \u2013 Follow-up", "regular": "Green \u2013 Regular"}
MOVES: Final[Mapping[str, tuple[str, ...]]] = {
    "planned": ("arrived", "cancelled"),
    "arrived": ("triaged", "in-progress", "cancelled"),
    "triaged": ("in-progress", "cancelled"),
    "in-progress": ("onleave", "finished", "cancelled"),
    "onleave": ("in-progress", "finished", "cancelled"),
}
"""Which status of an Encounter may follow which while it stands in a queue; `entered-in-error` may always."""
STATUSES: Final[Mapping[State, frozenset[str]]] = {
    # Who was sent on to another queue waits within a visit.
    "waiting": frozenset({"arrived", "triaged", "in-progress", "onleave"}),
    "called": frozenset({"arrived", "triaged", "in-progress", "onleave"}),
    "in-service": frozenset({"in-progress"}),
    "paused": frozenset({"onleave"}),
    "ended": frozenset({"finished", "cancelled", "entered-in-error", "in-progress", "onleave", "arrived", "triaged"}),
}
_BECOMES: Final[Mapping[str, State]] = {"in-progress": "in-service", "onleave": "paused"}
_ENDS: Final = {"finished": "completed", "cancelled": "left", "entered-in-error": "entered in error"}
_SYSTEM: Final = "system"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
TOKEN: Final = f"{CANON}/sid/queue-token"
_PLACE: Final = """
SELECT v.body FROM resource r JOIN resource_version v USING (vid) WHERE r.type = %s AND r.id = %s AND NOT r.deleted
"""


def zone_of(resource: Mapping[str, Any]) -> str | None:
    """The code of the zone in a resource's queue-priority."""
    for each in resource.get("extension", ()):
        if each.get("url") == PRIORITY:
            parts = {part.get("url"): part for part in each.get("extension", ())}
            codings = parts.get("zone", {}).get("valueCodeableConcept", {}).get("coding", ())
            return next((coding.get("code") for coding in codings if coding.get("system") == ZONE), None)
    return None


def place_of(resource: Mapping[str, Any], registry: Registry) -> str | None:
    """The id of the Location where an Encounter is now: the last of its places that is not over."""
    for each in reversed(resource.get("location", ())):
        if each.get("status") != "completed" and "end" not in each.get("period", {}):
            return local(each.get("location"), registry, "Location")
    return None


def priority(zone: str, at: datetime, basis: str, by: str | None = None, reason: str | None = None, due: datetime | None = None) -> dict[str, Any]:
    """The extension queue-priority."""
    parts: list[dict[str, Any]] = [
        {"url": "zone", "valueCodeableConcept": {"coding": [{"system": ZONE, "code": zone, "display": _DISPLAYS[zone]}]}},
        {"url": "assignedAt", "valueInstant": instant(at)},
        {"url": "basis", "valueCode": basis},
    ]
    if by is not None:
        parts.append({"url": "assignedBy", "valueReference": {"reference": by}})
    if reason is not None:
        parts.append({"url": "reason", "valueCodeableConcept": {"text": reason}})
    if due is not None:
        parts.append({"url": "reassessDue", "valueInstant": instant(due)})
    return {"url": PRIORITY, "extension": parts}


def with_priority(resource: Resource, extension: dict[str, Any]) -> Resource:
    """The resource with this queue-priority in place of any other."""
    return {**resource, "extension": [*(each for each in resource.get("extension", ()) if each.get("url") != PRIORITY), extension]}


def with_token(resource: Resource, entry: Entry) -> Resource:
    """The Encounter with the token of an entry in place of any other."""
    others = [each for each in resource.get("identifier", ()) if each.get("system") != TOKEN]
    day = entry.day.isoformat()
    return {**resource, "identifier": [*others, {"system": TOKEN, "value": str(entry.token), "period": {"start": day, "end": day}}]}


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op brings a vital sign that is a red flag."""
    return any(isinstance(op, Create) and "encounter" in op.resource and flagged(op.resource) is not None for op in ops)


def follow(writer: Writer, connection: Connection, targets: Sequence[Target], grant: Grant, at: datetime) -> set[str]:
    """Brings entries to what their Encounters are to be; the ids of those that stand in a queue, whose moves have been looked at.

    One statement where Encounters change, none where none do. An operation of the queue has moved the entry already: then the two only have to agree.
    An Encounter that is written with another place gets a token of the queue there. Raises Outcome `business-rule` for a move that is not in the
    table, and for one to a place where nobody can queue.
    """
    changed = {target.id: target for target in targets if target.type == "Encounter" and target.current is not None}
    held: set[str] = set()
    for entry, is_ours in queue.entries(connection, list(changed)) if changed else ():
        target = changed[entry.encounter]
        if is_ours:
            assert target.resource is None or target.resource["status"] in STATUSES[entry.state]
        elif entry.state == "ended":
            continue
        else:
            _bring(writer, connection, entry, target, Happened("", at, grant.actor))
        held.add(entry.encounter)
    return held


def _bring(writer: Writer, connection: Connection, entry: Entry, target: Target, by: Happened) -> None:
    registry, resource, current = writer.registry, target.resource, target.current
    if resource is None:
        queue.save(connection, queue.ended(entry, "deleted", by.at), replace(by, event="deleted"))
        return
    before = fhirjson.loads(current.body.encode()) if current is not None and current.body is not None else {}
    old, new = str(before.get("status")), str(resource.get("status"))
    after = entry
    if new != old:
        if new not in MOVES.get(old, ()) and new != "entered-in-error":
            said = " or ".join((*MOVES.get(old, ()), "entered-in-error"))
            raise Outcome(
                "business-rule", f"An Encounter in a queue that is {old} cannot become {new}: it may become {said}", expression="Encounter.status"
            )
        after = _at(after, new, by.at)
    zone, place = zone_of(resource), place_of(resource, registry)
    if zone is not None and zone != after.zone and zone != zone_of(before):
        after = replace(after, zone=zone, assigned=by.at)
    if place is not None and place != place_of(before, registry) and place != after.location and after.state != "ended":
        after = _moved(writer, connection, after, place, by.at)
        target.resource = with_token(resource, after)
    after = replace(after, patient=local(resource.get("subject"), registry, "Patient") or after.patient)
    if after != entry:
        queue.save(connection, after, replace(by, event=f"encounter {new}"), entry.location)


def _moved(writer: Writer, connection: Connection, entry: Entry, place: str, at: datetime) -> Entry:
    """The entry in the queue of another place, as a transfer has it; but whoever is being seen is seen there."""
    row = connection.execute(_PLACE, (writer.dictionary.types["Location"], place)).fetchone()
    location = fhirjson.loads(row[0].encode()) if row else {"status": "not there"}
    queue.refuse_closed(location, place)
    day = queue.day_at(location, at, writer.registry.zone)
    after = replace(entry, location=place, day=day, token=queue.token(connection, place, day), room=None, skipped=None)
    return queue.sent_on(after, at) if entry.state in {"waiting", "called"} else after


def raised(writer: Writer, connection: Connection, targets: Sequence[Target], at: datetime) -> list[Target]:
    """The Encounters, with their Provenance, of those who wait and of whom a red flag is written: they are emergencies from then on.

    Three statements for each where there are red flags, none without. An Encounter that is written anyway is changed where it stands.
    """
    why: dict[str, str] = {}
    for target in targets:
        if target.type == "Observation" and target.resource is not None and (said := flagged(target.resource)) is not None:
            identity = local(target.resource.get("encounter"), writer.registry, "Encounter")
            if identity is not None:
                why.setdefault(identity, said)
    there = {target.id: target for target in targets if target.type == "Encounter"}
    found: list[Target] = []
    for identity, reason in sorted(why.items()):
        own = there.get(identity) or following(writer, connection, "Encounter", identity, at)
        if own is None or own.current is None or own.resource is None:
            continue
        for entry, _ in queue.entries(connection, [identity]):
            if entry.state in {"waiting", "called"} and entry.zone != EMERGENCY:
                own.resource = with_priority(own.resource, priority(EMERGENCY, at, "auto", reason=reason))
                queue.save(connection, replace(entry, zone=EMERGENCY, assigned=at), Happened("raise", at, _SYSTEM, reason))
                found += [own] if identity not in there else []
                found.append(Target(BY_SERVER, "Provenance", writer.new_id(), "P", resource=_provenance(own, reason, at)))
    return found


def _provenance(target: Target, reason: str, at: datetime) -> Resource:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": f"Encounter/{target.id}/_history/{target.version}"}],
        "recorded": instant(at),
        "activity": {"coding": [{"system": f"{CANON}/CodeSystem/clinic-act", "code": "triage"}]},
        "reason": [{"text": reason}],
        "agent": [{"type": {"coding": [{"system": _PARTICIPANT, "code": "performer"}]}, "who": {"display": _SYSTEM}}],
    }


def _at(entry: Entry, status: str, at: datetime) -> Entry:
    if status in _ENDS:
        return queue.ended(entry, _ENDS[status], at)
    return queue.moved(entry, _BECOMES.get(status, entry.state), at)
