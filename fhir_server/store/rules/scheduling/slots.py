"""Slots as rows, and their status kept in step with the appointments that take the time of whose Schedule they are in.

https://hl7.org/fhir/R4/slot.html

Whatever appointment holds an actor makes the Slots of that actor's Schedules that it overlaps `busy`, or `busy-tentative` while it is pending, by a
new version in the appointment's own transaction. They are `free` again when nothing holds them any more before they begin. A Slot follows
appointments (`kept`) from when it was made busy here, when an appointment that names it holds it, or when a client sets it busy in the transaction
that books. One that somebody set busy without an appointment stays as it is, and so does what is `busy-unavailable`.

Locks come in the order of `occupancy`: resources first, for which the Slots that a transaction may change are foreseen, then actors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.search import Registry
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store.arrays import one_of, rows_of
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.writing.plan import Target

from .claims import LOOKED_UP, SINGLE, claims, moment, party, room
from .occupancy import Span, looked_up

BUSY: Final = frozenset({"busy", "busy-tentative"})
TYPES: Final = frozenset({"Schedule", "Slot"})
_DIRECTORY: Final = frozenset({"HealthcareService", "Location", "PractitionerRole"})
_CHUNK: Final = 1_000

# `OFFSET 0` keeps the planner from taking a condition apart: without statistics, as in a new database, it asks an index for the whole calendar of a
# Schedule, or for the time of everybody, and looks at each of the rows. That was 0.6 ms of a booking, and more the fuller the calendar.
_IN_TIME: Final = """
schedule_actor a CROSS JOIN LATERAL (
    SELECT s.rid, s.id FROM slot_time s WHERE s.schedule = a.schedule AND s.during && x.during OFFSET 0) AS s
WHERE a.actor = x.actor"""
_FORESEE: Final = f"""
WITH own AS MATERIALIZED (
    SELECT o.actor, o.during FROM resource r CROSS JOIN LATERAL (SELECT o.actor, o.during FROM occupancy o WHERE o.rid = r.rid OFFSET 0) AS o
    WHERE r.type = %s AND r.id = {one_of("text")})
SELECT s.id FROM (
    SELECT x.actor, tstzrange(x.lo, x.hi) AS during FROM {rows_of("text", "timestamptz", "timestamptz")} AS x(actor, lo, hi)
    UNION ALL SELECT actor, during FROM own) AS x
CROSS JOIN LATERAL (SELECT s.id FROM {_IN_TIME} OFFSET 0) AS s
UNION SELECT s.id FROM slot_time s WHERE s.id = {one_of("text")}
UNION SELECT substr(actor, 6) FROM own WHERE actor LIKE 'Slot/%%'
"""
_ADD_SLOTS: Final = """
INSERT INTO slot_time (rid, id, schedule, during, status, room, services, kept)
SELECT x.rid, x.id, x.schedule, tstzrange(x.lo, x.hi), x.status, x.room, string_to_array(x.services, ' '), false
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::int[], %s::text[])
    AS x(rid, id, schedule, lo, hi, status, room, services)
ON CONFLICT (rid) DO UPDATE SET schedule = excluded.schedule, during = excluded.during, status = excluded.status, room = excluded.room,
    services = excluded.services
"""
_ADD_SCHEDULES: Final = """
INSERT INTO schedule_time (id, active, services) SELECT x.id, x.active, string_to_array(x.services, ' ')
FROM unnest(%s::text[], %s::boolean[], %s::text[]) AS x(id, active, services)
ON CONFLICT (id) DO UPDATE SET active = excluded.active, services = excluded.services
"""
_ADD_ACTORS: Final = """
INSERT INTO schedule_actor (schedule, actor, room) SELECT * FROM unnest(%s::text[], %s::text[], %s::int[]) ON CONFLICT DO NOTHING
"""
_HELD_BY: Final = "SELECT DISTINCT actor FROM schedule_actor WHERE schedule = ANY(%s) AND room IS NOT NULL"
_OF_SCHEDULES: Final = "SELECT rid FROM slot_time WHERE schedule = ANY(%s) AND during && tstzrange(%s, NULL)"
_HOLDERS: Final = f"""
WITH touched AS MATERIALIZED (
    SELECT s.rid FROM (
        SELECT x.actor, tstzrange(x.lo, x.hi) AS during FROM {rows_of("text", "timestamptz", "timestamptz")} AS x(actor, lo, hi)) AS x
    CROSS JOIN LATERAL (SELECT s.rid FROM {_IN_TIME} AND a.room IS NOT NULL OFFSET 0) AS s
    UNION SELECT rid FROM slot_time WHERE id = {one_of("text")} UNION SELECT rid FROM slot_time WHERE rid = {one_of("bigint")})
SELECT s.rid, s.id, s.status, s.kept, lower(s.during), upper(s.during), h.actor, h.room, lower(h.during), upper(h.during), h.named, v.body
FROM touched CROSS JOIN LATERAL (SELECT * FROM slot_time s WHERE s.rid = touched.rid AND s.status <> 'entered-in-error' OFFSET 0) AS s
LEFT JOIN LATERAL (
    SELECT o.rid, o.actor, a.room, o.during, false AS named FROM schedule_actor a CROSS JOIN LATERAL (
        SELECT o.* FROM occupancy o WHERE o.actor = a.actor AND o.during && s.during OFFSET 0) AS o
    WHERE a.schedule = s.schedule AND a.room IS NOT NULL AND (o.expires IS NULL OR o.expires > %s)
    UNION ALL SELECT o.rid, o.actor, s.room, o.during, true FROM occupancy o
    WHERE o.actor = 'Slot/' || s.id AND o.during && s.during AND (o.expires IS NULL OR o.expires > %s)) AS h ON true
LEFT JOIN LATERAL (SELECT v.body FROM resource r JOIN resource_version v USING (vid) WHERE r.rid = h.rid OFFSET 0) AS v ON true
ORDER BY s.id
"""
_SETTLE: Final = f"""
UPDATE slot_time s SET status = x.status, kept = x.kept FROM {rows_of("bigint", "text", "boolean")} AS x(rid, status, kept)
WHERE s.rid = x.rid
"""
_NAMED: Final = """
UPDATE slot_time s SET kept = true WHERE NOT s.kept AND s.status IN ('busy', 'busy-tentative')
    AND EXISTS (SELECT FROM occupancy o WHERE o.actor = 'Slot/' || s.id AND o.during && s.during)
"""
_ALL: Final = """
SELECT r.rid, t.name, r.id, v.body FROM resource r JOIN resource_type t ON t.tid = r.type JOIN resource_version v USING (vid)
WHERE t.name IN ('Schedule', 'Slot') AND NOT r.deleted ORDER BY r.rid
"""


@dataclass(slots=True)
class Beside:
    """What a transaction has written of Slots and Schedules: the Slots' numbers, and the actors whose time they are about."""

    slots: set[int] = field(default_factory=set)
    actors: frozenset[str] = frozenset()


@dataclass(slots=True)
class Step:
    """A Slot whose status is to become another."""

    rid: int
    id: str
    status: str


@dataclass(slots=True)
class _State:
    """A Slot with what holds it: actor, for how many there is room, from when to when, and whether that is sure."""

    rid: int
    id: str
    status: str
    kept: bool
    lo: datetime
    hi: datetime
    held: list[tuple[str, int, datetime, datetime, bool]] = field(default_factory=list)
    named: bool = False


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op brings a Slot or a Schedule."""
    return any(isinstance(op, Create) and op.resource["resourceType"] in TYPES for op in ops)


def foresee(connection: Connection, registry: Registry, targets: Sequence[Target], at: datetime) -> set[str]:
    """The ids of the Slots that a transaction is likely to change, to be locked with what it writes. One statement; none without appointments.

    What a patch moves is not known yet: where its Slots are locked later, PostgreSQL may have to end one of two who wait for each other.
    """
    written = [target for target in targets if target.type == "Appointment"]
    if not written:
        return set()
    asked = [claim for target in written if target.resource is not None for claim in claims(target.resource, registry, at)]
    timed = [claim for claim in asked if claim.type != "Slot"]
    named = [claim.id for claim in asked if claim.type == "Slot"]
    number, ids = registry.types["Appointment"], [target.id for target in written if target.method != "P"]
    columns = ([claim.actor for claim in timed], [claim.lo for claim in timed], [claim.hi for claim in timed])
    return {identity for (identity,) in connection.execute(_FORESEE, (number, ids, *columns, named)).fetchall()}


def project(connection: Connection, registry: Registry, targets: Sequence[Target], at: datetime) -> Beside:
    """Writes the rows of the Slots and Schedules of a transaction. Some statements; none where it has none, nor anything of the directory."""
    slots = [target for target in targets if target.type == "Slot"]
    schedules = {target.id: target.resource for target in targets if target.type == "Schedule"}
    moved = [target for target in targets if target.type in _DIRECTORY and target.current is not None]
    if moved:
        schedules = _of_directory(connection, registry, moved) | schedules
    if not slots and not schedules:
        return Beside()
    changed = _write_schedules(connection, registry, schedules)
    _write_slots(connection, registry, {target.rid: (target.id, target.resource) for target in slots})
    beside = Beside({target.rid for target in slots if target.resource is not None})
    if changed:
        beside.slots |= {rid for (rid,) in connection.execute(_OF_SCHEDULES, (sorted(changed), at)).fetchall()}
    named = {identity for target in slots if (identity := _schedule_of(target.resource or {}, registry)) is not None} | changed
    beside.actors = frozenset(actor for (actor,) in connection.execute(_HELD_BY, (sorted(named),)).fetchall())
    return beside


def steps(connection: Connection, targets: Sequence[Target], spans: Sequence[Span], beside: Beside, at: datetime) -> list[Step]:
    """The Slots that have to become free or busy for what a transaction has written, when its actors are locked; their rows say so already."""
    if not spans and not beside.slots:
        return []
    timed = [span for span in spans if not span.actor.startswith("Slot/")]
    named = [span.actor.removeprefix("Slot/") for span in spans if span.actor.startswith("Slot/")]
    columns = ([span.actor for span in timed], [span.lo for span in timed], [span.hi for span in timed])
    rows = connection.execute(_HOLDERS, (*columns, named, list(beside.slots), at, at)).fetchall()
    own = {target.rid for target in targets if target.type == "Slot"}
    is_booking = any(target.type == "Appointment" for target in targets)
    found: list[Step] = []
    settled: list[tuple[int, str, bool]] = []
    for state in _states(rows):
        status, kept = _next(state, at, is_own=state.rid in own, is_booking=is_booking)
        if (status, kept) != (state.status, state.kept):
            settled.append((state.rid, status, kept))
        if status != state.status:
            found.append(Step(state.rid, state.id, status))
    if settled:
        connection.execute(_SETTLE, tuple(map(list, zip(*settled, strict=True))))
    return found


def renew(connection: Connection, registry: Registry, written: Mapping[int, tuple[str, str, Resource | None]] | None = None) -> None:
    """Makes the rows of some Slots and Schedules anew (number: type, id, content, None for a deleted one); without any those of all.

    In a transaction, after the rows of appointments. No Slot changes by it.
    """
    if written is not None:
        _write(connection, registry, written)
        return
    connection.execute("DELETE FROM schedule_time; DELETE FROM schedule_actor", prepare=False)
    connection.execute("DELETE FROM slot_time s WHERE NOT EXISTS (SELECT FROM resource r WHERE r.rid = s.rid AND NOT r.deleted)")
    with connection.cursor("slots") as cursor:
        cursor.execute(_ALL)
        while chunk := {rid: (name, identity, fhirjson.loads(body.encode())) for rid, name, identity, body in islice(cursor, _CHUNK)}:
            _write(connection, registry, chunk)
    connection.execute(_NAMED)


def _write(connection: Connection, registry: Registry, written: Mapping[int, tuple[str, str, Resource | None]]) -> None:
    _write_schedules(connection, registry, {identity: resource for name, identity, resource in written.values() if name == "Schedule"})
    _write_slots(connection, registry, {rid: (identity, resource) for rid, (name, identity, resource) in written.items() if name == "Slot"})


def _states(rows: Iterable[tuple[Any, ...]]) -> list[_State]:
    found: dict[int, _State] = {}
    for rid, identity, status, kept, lo, hi, actor, space, begins, ends, named, body in rows:
        state = found.setdefault(rid, _State(rid, identity, status, kept, lo, hi))
        if actor is not None:
            is_sure = body is None or fhirjson.loads(body.encode()).get("status") != "pending"
            state.held.append((actor, space, begins, ends, is_sure))
            state.named |= named
    return list(found.values())


def _next(state: _State, at: datetime, *, is_own: bool, is_booking: bool) -> tuple[str, bool]:
    """Status of a Slot and whether it follows appointments. `is_own`: this transaction writes it, `is_booking`: it writes appointments."""
    wanted = _wanted(state)
    if state.status == "free":
        return (wanted, True) if wanted is not None else ("free", False)
    if state.status not in BUSY:
        return state.status, False
    if wanted is None:
        if is_own:
            # Who says busy while nothing holds it means it, whatever it was before.
            return state.status, False
        # What has begun is not free again: whoever had it was seen then, or did not come.
        return ("free", False) if state.kept and state.lo > at else (state.status, state.kept)
    kept = state.kept or state.named or (is_own and is_booking)
    return ("busy" if kept and wanted == "busy" else state.status), kept


def _wanted(state: _State) -> str | None:
    if is_full(state.lo, state.hi, [each[:4] for each in state.held if each[4]]):
        return "busy"
    return "busy-tentative" if is_full(state.lo, state.hi, [each[:4] for each in state.held]) else None


def is_full(lo: datetime, hi: datetime, held: Iterable[tuple[str, int, datetime, datetime]]) -> bool:
    """Whether at some moment of a time one of these actors has no room left; each row is an actor, its room, and a time that it is held."""
    by_actor: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    rooms: dict[str, int] = {}
    for actor, space, begins, ends in held:
        if begins < hi and ends > lo:
            rooms[actor] = space
            by_actor[actor] += ((max(begins, lo), 1), (min(ends, hi), -1))
    for actor, changes in by_actor.items():
        count = 0
        for _, change in sorted(changes):
            count += change
            if count >= rooms[actor]:
                return True
    return False


def _write_slots(connection: Connection, registry: Registry, written: Mapping[int, tuple[str, Resource | None]]) -> None:
    rows, gone = [], []
    for rid, (identity, resource) in written.items():
        row = _slot_row(rid, identity, resource, registry) if resource is not None else None
        if row is None:
            gone.append(rid)
        else:
            rows.append(row)
    if gone:
        connection.execute("DELETE FROM slot_time WHERE rid = ANY(%s)", (gone,))
    if rows:
        connection.execute(_ADD_SLOTS, tuple(map(list, zip(*rows, strict=True))))


def _slot_row(rid: int, identity: str, resource: Resource, registry: Registry) -> tuple[Any, ...] | None:
    schedule, lo, hi = _schedule_of(resource, registry), moment(resource.get("start")), moment(resource.get("end"))
    if schedule is None or lo is None or hi is None or lo >= hi:
        return None
    return rid, identity, schedule, lo, hi, resource.get("status", ""), room(resource), " ".join(_services(resource))


def _schedule_of(resource: Resource, registry: Registry) -> str | None:
    text = resource.get("schedule", {}).get("reference")
    found = locate(text, registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
    if found is None or found[1] == ABSOLUTE or registry.type_name(found[1]) != "Schedule":
        return None
    return found[0]


def _services(resource: Resource, element: str = "serviceType") -> set[str]:
    """The codes of what is done then, each with its system and without."""
    codings = [coding for concept in resource.get(element, ()) for coding in concept.get("coding", ()) if coding.get("code")]
    pairs = [(coding.get("system", ""), coding["code"]) for coding in codings]
    return {text for system, code in pairs for text in (f"{system}|{code}", code) if " " not in text}


def _write_schedules(connection: Connection, registry: Registry, written: Mapping[str, Resource | None]) -> set[str]:
    """Writes the rows of Schedules; those whose actors are others than they were."""
    if not written:
        return set()
    actors, services = _actors(connection, registry, written)
    before: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    for schedule, actor, space in connection.execute("SELECT schedule, actor, room FROM schedule_actor WHERE schedule = ANY(%s)", (list(written),)):
        before[schedule].add((actor, space))
    changed = {schedule for schedule in written if actors[schedule] != before[schedule]}
    if changed:
        connection.execute("DELETE FROM schedule_actor WHERE schedule = ANY(%s)", (list(changed),))
        rows = [(schedule, actor, space) for schedule in changed for actor, space in actors[schedule]]
        if rows:
            connection.execute(_ADD_ACTORS, tuple(map(list, zip(*rows, strict=True))))
    there = {schedule: resource for schedule, resource in written.items() if resource is not None}
    if gone := [schedule for schedule in written if schedule not in there]:
        connection.execute("DELETE FROM schedule_time WHERE id = ANY(%s)", (gone,))
    if there:
        texts = [" ".join(sorted(services[schedule])) for schedule in there]
        connection.execute(_ADD_SCHEDULES, (list(there), [resource.get("active") is not False for resource in there.values()], texts))
    return changed & {schedule for schedule in changed if before[schedule]}


def _actors(
    connection: Connection, registry: Registry, written: Mapping[str, Resource | None]
) -> tuple[dict[str, set[tuple[str, int | None]]], dict[str, set[str]]]:
    """By Schedule whose time it is, each with the room there is, None for what is not held; and what is done then."""
    parties = {schedule: list(_parties((resource or {}).get("actor", ()), registry)) for schedule, resource in written.items()}
    asked = {each for found in parties.values() for each in found if each[0] in LOOKED_UP}
    known = looked_up(connection, registry, asked)
    behind = {
        role: list(_parties([resource.get("practitioner"), *resource.get("location", ()), *resource.get("healthcareService", ())], registry))
        for role, resource in known.items()
        if role[0] == "PractitionerRole"
    }
    further = {each for found in behind.values() for each in found if each[0] in LOOKED_UP} - known.keys()
    known |= looked_up(connection, registry, further)
    actors: dict[str, set[tuple[str, int | None]]] = {}
    services: dict[str, set[str]] = {}
    for schedule, found in parties.items():
        own = [(each, True) for each in found] + [(each, each[0] == "Practitioner") for role in found for each in behind.get(role, ())]
        rooms: dict[str, int | None] = {}
        for (name, identity), is_held in own:
            space = _room(name, known.get((name, identity))) if is_held else None
            actor = f"{name}/{identity}" if name else identity
            rooms[actor] = space if space is not None else rooms.get(actor)
        actors[schedule] = set(rooms.items())
        services[schedule] = _services(written[schedule] or {})
        for each, _ in own:
            if each[0] == "HealthcareService" and each in known:
                services[schedule] |= _services(known[each], "type")
    return actors, services


def _parties(references: Iterable[Any], registry: Registry) -> Iterator[tuple[str, str]]:
    for reference in references:
        if (found := party(reference, registry)) is not None:
            yield found


def _room(name: str, resource: Resource | None) -> int | None:
    if name in SINGLE or not name:
        return 1
    return room(resource) if resource is not None and name != "PractitionerRole" else None


def _of_directory(connection: Connection, registry: Registry, moved: Sequence[Target]) -> dict[str, Resource | None]:
    """The Schedules of roles, rooms and services that are others now."""
    rows = connection.execute(
        "SELECT DISTINCT schedule FROM schedule_actor WHERE actor = ANY(%s)", ([f"{target.type}/{target.id}" for target in moved],)
    ).fetchall()
    found = looked_up(connection, registry, [("Schedule", identity) for (identity,) in rows])
    return {identity: resource for (_, identity), resource in found.items()}


__all__ = ["BUSY", "Beside", "Step", "concerns", "foresee", "is_full", "project", "renew", "steps"]
