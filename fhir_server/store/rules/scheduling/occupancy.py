"""No double booking: who and what is held by appointments when, as rows that PostgreSQL lets nobody lay over each other.

https://hl7.org/fhir/R4/appointment.html

Whatever one appointment holds is a row: an actor, a span of time and a lane. No two rows of one actor overlap in one lane, by constraint, and where
there is room for one at a time there is one lane. For more at a time the rows that overlap are counted, and lie in whatever lanes are free.

Rows change in the transaction that writes the appointment, by their difference: one that keeps its time keeps its rows. Whoever changes rows of an
actor holds the actor's lock until the transaction ends, so that racers wait in a line and each sees what the ones before have left. Locks come after
all locks of resources, in one order; and before any row, so that two who swap their times do not wait for each other.

What a role, room, service or slot is, is looked up as the appointment is written; it is looked at again when the appointment is written again, or
reindexed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from fhir_server import fhirjson
from fhir_server.outcome import Issue, Outcome
from fhir_server.search import Grant, Registry
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store.arrays import one_of, rows_of
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Resource
from fhir_server.store.rules.lifecycle import is_of_the_desk
from fhir_server.store.writing.plan import Target

from .claims import EVER, HOLDING, LOOKED_UP, Claim, claims, moment, overbooked, room

_MAX_LOCKS: Final = 250
"""Actors that a transaction locks one by one: PostgreSQL has room for 6,400 locks of all sessions. Beyond, it locks the table."""
_MAX_TOLD: Final = 10
_CHUNK: Final = 1_000

_THERE: Final = f"SELECT rid, actor, lower(during), upper(during), expires FROM occupancy WHERE rid = {one_of('bigint')}"
_LOOK_UP: Final = f"""
SELECT r.type, r.id, v.body FROM {rows_of("smallint", "text")} AS x(type, id)
JOIN resource r ON r.type = x.type AND r.id = x.id JOIN resource_version v USING (vid) WHERE NOT r.deleted
"""
_REMOVE: Final = f"DELETE FROM occupancy o USING {rows_of('bigint', 'text')} AS x(rid, actor) WHERE o.rid = x.rid AND o.actor = x.actor"
_ADD: Final = f"""
WITH x AS MATERIALIZED (
    SELECT * FROM {rows_of("bigint", "text", "int", "timestamptz", "timestamptz", "timestamptz", "boolean")}
        AS x(rid, actor, lane, lo, hi, expires, clash)),
busy AS MATERIALIZED (
    SELECT x.rid, x.actor, o.rid AS holder, o.lane, lower(o.during), upper(o.during), coalesce(o.expires <= %s, false)
    FROM x JOIN occupancy o ON o.actor = x.actor AND o.during && tstzrange(x.lo, x.hi) WHERE NOT %s),
added AS (
    INSERT INTO occupancy (rid, actor, lane, during, expires, clash)
    SELECT x.rid, x.actor, x.lane, tstzrange(x.lo, x.hi), x.expires, x.clash FROM x WHERE NOT EXISTS (SELECT FROM busy))
SELECT * FROM busy
"""
"""Adds rows if they overlap none of those that are there, or in any case; answers which are in the way."""
_APPOINTMENTS: Final = """
SELECT r.rid, v.body FROM resource r JOIN resource_version v USING (vid)
WHERE r.type = (SELECT tid FROM resource_type WHERE name = 'Appointment') AND NOT r.deleted ORDER BY r.rid
"""
_CLASHES: Final = """
SELECT r.id, s.id, o.actor, greatest(lower(o.during), lower(p.during)) AS lo, least(upper(o.during), upper(p.during))
FROM occupancy o JOIN occupancy p ON p.actor = o.actor AND p.during && o.during AND p.rid <> o.rid
JOIN resource r ON r.rid = o.rid JOIN resource s ON s.rid = p.rid
WHERE o.clash AND (NOT p.clash OR p.rid < o.rid) ORDER BY lo, o.actor, r.id, s.id LIMIT %s
"""


class Clash(NamedTuple):
    """Two appointments, by id, that hold an actor at the same time although there is no room for both."""

    one: str
    other: str
    actor: str
    lo: datetime
    hi: datetime


class Span(NamedTuple):
    """A time of an actor that an appointment has taken, given back, or holds in another way than before."""

    actor: str
    lo: datetime
    hi: datetime


class _Busy(NamedTuple):
    lane: int
    lo: datetime
    hi: datetime


class _Placed(NamedTuple):
    rid: int
    actor: str
    lane: int
    lo: datetime
    hi: datetime
    expires: datetime | None
    clash: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    """A claim of an appointment. It `goes_beyond` the room there is where staff have said so."""

    rid: int
    claim: Claim
    goes_beyond: bool


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op brings an appointment that may hold something, or that says it may hold what is held already."""
    created = (op.resource for op in ops if isinstance(op, Create) and op.resource["resourceType"] == "Appointment")
    return any(resource.get("status") in HOLDING or "extension" in resource for resource in created)


def follow(
    connection: Connection, registry: Registry, targets: Sequence[Target], grant: Grant, at: datetime, besides: Collection[str] = ()
) -> list[Span]:
    """Brings the rows to what the appointments say that a transaction has written; the times that may be held otherwise now.

    Locks the actors `besides`, too. Two statements, up to four more where there were rows before, something has to be looked up, or is in the way;
    none without appointments.
    Raises Outcome `conflict`, which names the times but not whose they are, where somebody or something is held already, `forbidden` where the caller
    may not overbook, and `invalid` where the reason for it is missing.
    """
    written = [target for target in targets if target.type == "Appointment"]
    bringing = _Bringing(connection, registry, at, besides)
    if not written:
        bringing.lock(())
        return []
    beyond = {target.rid for target in written if target.resource is not None and _may_go_beyond(target, target.resource, grant)}
    asked = {target.rid: target.resource for target in written}
    is_new = all(target.current is None for target in written)
    moved = {target.rid for target in written if target.current is not None and _has_moved(target)}
    return bringing.bring(asked, beyond, is_new=is_new, refuse=True, moved=moved)


def renew(connection: Connection, registry: Registry, at: datetime, written: Mapping[int, Resource | None] | None = None) -> None:
    """Makes the rows of some appointments anew, by number, None for one that is deleted; without any those of all. In a transaction.

    What clashes is not refused: it gets a lane of its own, and `clashes` tells of it. 1,300 appointments a second on a busy machine.
    """
    if written is not None:
        if written:
            _Bringing(connection, registry, at).bring(written, _said(written), is_new=False, refuse=False)
        return
    bringing = _Bringing(connection, registry, at)
    bringing.lock_all()
    connection.execute("DELETE FROM occupancy")
    with connection.cursor("occupancy") as cursor:
        cursor.execute(_APPOINTMENTS)
        while chunk := {rid: fhirjson.loads(body.encode()) for rid, body in islice(cursor, _CHUNK)}:
            bringing.bring(chunk, _said(chunk), is_new=True, refuse=False)


def clashes(connection: Connection, limit: int) -> list[Clash]:
    """The first appointments that were there before anybody refused them and still clash; those that staff have overbooked are none."""
    return [Clash(*row) for row in connection.execute(_CLASHES, (limit,)).fetchall()]


def _said(written: Mapping[int, Resource | None]) -> set[int]:
    found = set()
    for rid, resource in written.items():
        try:
            if resource is not None and overbooked(resource) is not None:
                found.add(rid)
        except Outcome:
            continue
    return found


def _may_go_beyond(target: Target, resource: Resource, grant: Grant) -> bool:
    """Whether an appointment may hold what is held already: staff say so, with the reason. Others may leave that as it is, and no more."""
    said = overbooked(resource)
    if said is None:
        return False
    if is_of_the_desk(grant, "c" if target.method == "P" else "u"):
        return True
    current = target.current
    before = fhirjson.loads(current.body.encode()) if current is not None and current.body is not None else {}
    if overbooked(before) != said:
        raise Outcome("forbidden", "Only staff book over what is booked already", expression="Appointment.extension")
    return False


def _has_moved(target: Target) -> bool:
    """Whether an appointment's status is another one, so that its time may be held in another way."""
    if target.resource is None or target.current is None or target.current.body is None:
        return True
    return bool(fhirjson.loads(target.current.body.encode()).get("status") != target.resource.get("status"))


def looked_up(connection: Connection, registry: Registry, asked: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Resource]:
    """The current resources of these types and ids that there are. One statement; none for nobody."""
    listed = list(asked)
    if not listed:
        return {}
    types, ids = zip(*((registry.types[name], identity) for name, identity in listed), strict=True)
    rows = connection.execute(_LOOK_UP, (list(types), list(ids))).fetchall()
    return {(registry.type_name(number), identity): fhirjson.loads(body.encode()) for number, identity, body in rows}


class _Bringing:
    """Rows brought to what appointments say, over a connection that is in a transaction."""

    def __init__(self, connection: Connection, registry: Registry, at: datetime, besides: Collection[str] = ()) -> None:
        self._connection = connection
        self._registry = registry
        self._at = at
        self._besides = frozenset(besides)
        self._over: list[Span] = []
        self._has_all = False

    def bring(
        self, written: Mapping[int, Resource | None], beyond: set[int], *, is_new: bool, refuse: bool, moved: Collection[int] = ()
    ) -> list[Span]:
        """See `follow` and `renew`; `is_new` says that there are no rows yet, and `moved` which appointments hold otherwise what they keep."""
        wanted = self._known({rid: list(claims(resource, self._registry, self._at)) for rid, resource in written.items() if resource is not None})
        there = set() if is_new else set(self._connection.execute(_THERE, (list(written),)).fetchall())
        kept = {_row(rid, claim) for rid, claim in wanted} & there
        new = [_Asked(rid, claim, rid in beyond) for rid, claim in wanted if _row(rid, claim) not in kept]
        gone = [(rid, actor) for rid, actor, *_ in there - kept]
        spans = [Span(actor, lo, hi) for rid, actor, lo, hi, _ in there - kept] + [Span(one.claim.actor, one.claim.lo, one.claim.hi) for one in new]
        spans += [Span(claim.actor, claim.lo, claim.hi) for rid, claim in wanted if rid in moved and _row(rid, claim) in kept]
        self.lock({span.actor for span in spans})
        if not new and not gone:
            return spans
        self._remove(gone)
        # As nearly all times are free, rows are made as if this one were, and made again where it is not.
        rows, issues = self._placed(new, {})
        if busy := self._add(rows):
            rows, issues = self._placed(new, busy)
        if issues and refuse:
            raise Outcome("conflict", issues=issues[:_MAX_TOLD])
        if busy:
            self._add(rows, in_any_case=True)
        return spans + self._over

    def _known(self, found: Mapping[int, list[Claim]]) -> list[tuple[int, Claim]]:
        """The claims that hold something, one for each actor of an appointment, with the room that there is."""
        asked = {(claim.type, claim.id) for each in found.values() for claim in each if claim.type in LOOKED_UP}
        resources = looked_up(self._connection, self._registry, asked)
        known: dict[tuple[int, str], Claim] = {}
        for rid, each in found.items():
            for claim in each:
                settled = self._settled(claim, resources.get((claim.type, claim.id))) if claim.type in LOOKED_UP else claim
                if settled is not None:
                    known.setdefault((rid, settled.actor), settled)
        return [(rid, claim) for (rid, _), claim in known.items()]

    def _settled(self, claim: Claim, resource: Resource | None) -> Claim | None:
        if claim.type == "PractitionerRole":
            text = resource.get("practitioner", {}).get("reference") if resource is not None else None
            found = locate(text, self._registry.context) if text and not text.startswith("#") else None
            if found is None:
                return None
            identity, number = found
            return replace(claim, type="" if number == ABSOLUTE else self._registry.type_name(number), id=identity)
        if resource is None:
            return claim if claim.type == "Slot" else None
        space = room(resource)
        if claim.type == "Slot":
            if _is_elsewhere(claim, resource):
                return None
            if (part := _part(claim, resource)) is not None:
                claim = replace(claim, lo=part[0], hi=part[1])
        return None if space is None else replace(claim, room=space)

    def lock_all(self) -> None:
        """Waits until no other transaction changes rows, and keeps all from it until this one ends."""
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ALL,))
        self._has_all = True

    def lock(self, actors: Iterable[str]) -> None:
        """Locks actors, in one order for everybody, until the transaction ends."""
        keys = sorted(map(_key, self._besides.union(actors)))
        if self._has_all or not keys:
            return
        if len(keys) > _MAX_LOCKS:
            # The others lock this first: none of them can be in the way here and wait for an actor of ours.
            self.lock_all()
            return
        self._connection.execute(
            "SELECT pg_advisory_xact_lock_shared(%s) UNION ALL"
            f" SELECT pg_advisory_xact_lock(x.key) FROM {rows_of('bigint')} WITH ORDINALITY AS x(key, n)",
            (_ALL, keys),
        )

    def _add(self, rows: Sequence[_Placed], *, in_any_case: bool = False) -> dict[tuple[int, str], list[_Busy]]:
        """Adds rows unless others are in their way: these, by the appointment and actor of the new ones. What has expired is taken away."""
        arguments = tuple(map(list, zip(*rows, strict=True)))
        found = self._connection.execute(_ADD, (*arguments, self._at, in_any_case)).fetchall() if rows else []
        busy: dict[tuple[int, str], list[_Busy]] = {}
        for rid, actor, _, lane, lo, hi, is_over in found:
            busy.setdefault((rid, actor), []).extend([] if is_over else [_Busy(lane, lo, hi)])
        self._remove({(holder, actor) for _, actor, holder, *_, is_over in found if is_over})
        self._over += [Span(actor, lo, hi) for _, actor, _, _, lo, hi, is_over in found if is_over]
        return busy

    def _remove(self, gone: Iterable[tuple[int, str]]) -> None:
        if listed := list(gone):
            self._connection.execute(_REMOVE, tuple(map(list, zip(*listed, strict=True))))

    def _placed(self, new: Sequence[_Asked], busy: Mapping[tuple[int, str], list[_Busy]]) -> tuple[list[_Placed], list[Issue]]:
        """A row for each claim, those without room marked, and what is to be told of these."""
        rows: list[_Placed] = []
        issues: list[Issue] = []
        before: dict[str, list[_Busy]] = defaultdict(list)
        # By time, so that of those placed here only those that are not over at the start of the next can be in its way.
        for each in sorted(new, key=lambda each: (each.claim.lo, each.rid)):
            claim = each.claim
            here = before[claim.actor] = [one for one in before[claim.actor] if one.hi > claim.lo]
            others = [*busy.get((each.rid, claim.actor), ()), *here]
            full = None if each.goes_beyond else _full(claim, others)
            if full is not None:
                issues.append(Issue("error", "conflict", self._told(claim, full), (claim.place,)))
            taken = {one.lane for one in others}
            lane = next(lane for lane in range(1, len(taken) + 2) if lane not in taken)
            rows.append(_Placed(each.rid, claim.actor, lane, claim.lo, claim.hi, claim.expires, full is not None))
            here.append(_Busy(lane, claim.lo, claim.hi))
        return rows, issues

    def _told(self, claim: Claim, full: tuple[datetime, datetime]) -> str:
        if (claim.lo, claim.hi) == EVER:
            return f"{claim.named} is taken"
        try:
            lo, hi = (moment.astimezone(self._registry.zone) for moment in full)
        except OverflowError:
            lo, hi = full
        return f"{claim.named} is taken from {lo.isoformat(timespec='seconds')} to {hi.isoformat(timespec='seconds')}"


def _is_elsewhere(claim: Claim, slot: Resource) -> bool:
    """Whether an appointment takes no time of a slot that it names: it was moved, and whoever moved it has left the slot in."""
    lo, hi = moment(slot.get("start")), moment(slot.get("end"))
    within = claim.within
    return within is not None and lo is not None and hi is not None and (within[1] <= lo or hi <= within[0])


def _part(claim: Claim, slot: Resource) -> tuple[datetime, datetime] | None:
    """The time of an appointment that takes a part of a slot only: the rest of it is left to others. None for one that fills it."""
    lo, hi = moment(slot.get("start")), moment(slot.get("end"))
    within = claim.within
    if within is None or lo is None or hi is None or not (lo <= within[0] and within[1] <= hi) or within == (lo, hi):
        return None
    return within


def _full(claim: Claim, others: Iterable[_Busy]) -> tuple[datetime, datetime] | None:
    """The first time within a claim at which there is no room for it."""
    # Whoever ends at a moment is gone before another begins.
    steps = sorted(step for each in others for step in ((max(each.lo, claim.lo), 1), (min(each.hi, claim.hi), -1)))
    count, since = 0, None
    for when, step in steps:
        count += step
        if since is None and count >= claim.room:
            since = when
        elif since is not None and count < claim.room:
            return since, when
    return None


def _row(rid: int, claim: Claim) -> tuple[object, ...]:
    return rid, claim.actor, claim.lo, claim.hi, claim.expires


def _key(actor: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"occupancy\0{actor}".encode(), digest_size=8).digest(), "big", signed=True)


_ALL: Final = _key("")
