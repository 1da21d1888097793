"""Questions about free time, asked of the rows of `slots` and `occupancy`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from fhir_server.search import Registry
from fhir_server.store.arrays import one_of, rows_of
from fhir_server.store.database import Connection, scalar

from .slots import BUSY, is_full

MOST_SLOTS: Final = 2_000
"""Slots that are looked at in one statement."""
_MOST_SCHEDULES: Final = 500

_SCHEDULES: Final = """
SELECT t.id FROM schedule_time t WHERE t.active AND (%(schedules)s::text[] IS NULL OR t.id = ANY(%(schedules)s))
    AND (%(people)s::text[] IS NULL OR EXISTS (SELECT FROM schedule_actor a WHERE a.schedule = t.id AND a.actor = ANY(%(people)s)))
    AND (%(places)s::text[] IS NULL OR EXISTS (SELECT FROM schedule_actor a WHERE a.schedule = t.id AND a.actor = ANY(%(places)s)))
    AND (%(services)s::text[] IS NULL OR t.services && %(services)s
        OR EXISTS (SELECT FROM slot_time s WHERE s.schedule = t.id AND s.services && %(services)s))
ORDER BY t.id LIMIT %(most)s
"""
_COLUMNS: Final = "s.id, s.schedule, lower(s.during), upper(s.during), s.status, s.kept, s.services"
_SLOTS: Final = f"""
SELECT {_COLUMNS} FROM {rows_of("text")} AS x(schedule) JOIN slot_time s ON s.schedule = x.schedule AND s.during && tstzrange(%s, %s)
WHERE s.status = 'free' OR (s.kept AND s.status IN ('busy', 'busy-tentative')) ORDER BY lower(s.during), s.id LIMIT %s
"""
_AROUND: Final = f"""
SELECT {_COLUMNS} FROM {rows_of("text")} AS x(schedule) JOIN schedule_time t ON t.id = x.schedule AND t.active
JOIN slot_time s ON s.schedule = x.schedule AND s.during && tstzrange(%s, %s) WHERE s.status <> 'entered-in-error' ORDER BY 3, 1 LIMIT %s
"""
_NAMED: Final = (
    f"SELECT {_COLUMNS} FROM slot_time s JOIN schedule_time t ON t.id = s.schedule AND t.active WHERE s.id = {one_of('text')} ORDER BY 3, 1"
)
# `OFFSET 0` as in `slots`: who is asked for, and when, are both to be looked up in the index.
_HELD: Final = f"""
SELECT a.schedule, o.actor, a.room, lower(o.during), upper(o.during)
FROM schedule_actor a CROSS JOIN LATERAL (SELECT * FROM occupancy o WHERE o.actor = a.actor AND o.during && tstzrange(%s, %s) OFFSET 0) AS o
WHERE a.schedule = {one_of("text")} AND a.room IS NOT NULL AND (o.expires IS NULL OR o.expires > %s) AND o.rid <> %s ORDER BY 4
"""
_FILLED: Final = f"""
SELECT s.id, o.actor, s.room, lower(o.during), upper(o.during)
FROM {rows_of("text")} AS x(id) JOIN slot_time s ON s.id = x.id
CROSS JOIN LATERAL (SELECT * FROM occupancy o WHERE o.actor = 'Slot/' || s.id AND o.during && tstzrange(%s, %s) OFFSET 0) AS o
WHERE (o.expires IS NULL OR o.expires > %s) AND o.rid <> %s
"""


class Piece(NamedTuple):
    """A Slot that may be offered. `services` are the codes of what is done then, none where its Schedule says so."""

    id: str
    schedule: str
    lo: datetime
    hi: datetime
    status: str
    kept: bool
    services: Sequence[str]

    @property
    def is_open(self) -> bool:
        """Whether nothing but appointments keeps it from being free."""
        return self.status == "free" or (self.kept and self.status in BUSY)


Row = tuple[str, int, datetime, datetime]
"""An actor, its room, and a time that it is held."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is held in a span of time: rows by Schedule in order of their beginnings, and by Slot."""

    by_schedule: dict[str, list[Row]]
    by_slot: dict[str, list[Row]]

    def leaves(self, schedule: str, pieces: Collection[str], lo: datetime, hi: datetime) -> bool:
        """Whether a Schedule and some of its Slots have room for one more from `lo` to `hi`. Drops what is over by then: ask in order of time."""
        rows = self.by_schedule.get(schedule, [])
        while rows and rows[0][3] <= lo:
            rows.pop(0)
        near: list[Row] = []
        for row in rows:
            if row[2] >= hi:
                break
            near.append(row)
        near += [row for each in pieces for row in self.by_slot.get(each, ())]
        return not near or not is_full(lo, hi, near)


def schedules(
    connection: Connection,
    ids: Collection[str] | None,
    people: Collection[str] | None,
    places: Collection[str] | None,
    services: Collection[str] | None,
) -> list[str]:
    """The ids of the active Schedules that fulfil all conditions which are not None; each is fulfilled by any of its values."""
    lists = {"schedules": ids, "people": people, "places": places, "services": services}
    arguments = {name: None if values is None else list(values) for name, values in lists.items()}
    return [identity for (identity,) in connection.execute(_SCHEDULES, {**arguments, "most": _MOST_SCHEDULES}).fetchall()]


def serving(connection: Connection, ids: Collection[str], services: Collection[str]) -> frozenset[str]:
    """Those of some Schedules that are for one of these services themselves, not in some of their Slots only."""
    statement = "SELECT id FROM schedule_time WHERE id = ANY(%s) AND services && %s::text[]"
    return frozenset(identity for (identity,) in connection.execute(statement, (list(ids), list(services))).fetchall())


def pieces(connection: Connection, ids: Sequence[str], lo: datetime, hi: datetime) -> list[Piece]:
    """The first Slots of Schedules that overlap a time and that nothing but appointments holds, up to MOST_SLOTS, the soonest first."""
    return [Piece(*row) for row in connection.execute(_SLOTS, (list(ids), lo, hi, MOST_SLOTS)).fetchall()]


def around(connection: Connection, ids: Sequence[str], lo: datetime, hi: datetime) -> list[Piece]:
    """All Slots of active Schedules that overlap a time, whatever their status, the soonest first. A statement for each MOST_SLOTS of them."""
    found: dict[str, Piece] = {}
    while True:
        rows = [Piece(*row) for row in connection.execute(_AROUND, (list(ids), lo, hi, MOST_SLOTS)).fetchall()]
        before = len(found)
        found |= {piece.id: piece for piece in rows}
        if len(rows) < MOST_SLOTS or len(found) == before:
            return list(found.values())
        lo = max(lo, rows[-1].lo)


def named(connection: Connection, ids: Collection[str]) -> list[Piece]:
    """These Slots of active Schedules, whatever their status, the soonest first."""
    return [Piece(*row) for row in connection.execute(_NAMED, (list(ids),)).fetchall()]


def held(connection: Connection, found: Collection[Piece], lo: datetime, hi: datetime, at: datetime, apart: int = 0) -> Held:
    """What is held of these Slots and of their Schedules' actors from `lo` to `hi`, but for holds that have expired `at` that moment.

    What the appointment with the number `apart` holds is left out.
    """
    by_schedule: dict[str, list[Row]] = {}
    by_slot: dict[str, list[Row]] = {}
    if found:
        for schedule, *row in connection.execute(_HELD, (lo, hi, list({piece.schedule for piece in found}), at, apart)).fetchall():
            by_schedule.setdefault(schedule, []).append((row[0], row[1], row[2], row[3]))
        # What is free is named by nobody.
        kept = [piece.id for piece in found if piece.status != "free"]
        rows = connection.execute(_FILLED, (kept, lo, hi, at, apart)).fetchall() if kept else []
        for slot, *row in rows:
            by_slot.setdefault(slot, []).append((row[0], row[1], row[2], row[3]))
    return Held(by_schedule, by_slot)


def next_slots(connection: Connection, schedule: str, at: datetime, limit: int) -> list[Piece]:
    """Some Slots of a Schedule that are not over."""
    statement = f"SELECT {_COLUMNS} FROM slot_time s WHERE s.schedule = %s AND s.during && tstzrange(%s, NULL) LIMIT %s"
    return [Piece(*row) for row in connection.execute(statement, (schedule, at, limit)).fetchall()]


def roles_of(connection: Connection, registry: Registry, people: Sequence[str]) -> list[tuple[str, str]]:
    """The PractitionerRoles of Practitioners, each with whose it is."""
    pid, number = registry.supported_params("PractitionerRole")["practitioner"].pid, registry.types["Practitioner"]
    statement = (
        "SELECT s.id, r.id FROM sp_reference s JOIN resource r USING (rid) WHERE s.pid = %s AND s.type = %s AND s.id = ANY(%s) AND NOT r.deleted"
        " ORDER BY s.id, r.rid LIMIT 5000"
    )
    return connection.execute(statement, (pid, number, list(people))).fetchall()


def schedules_behind(connection: Connection, names: Sequence[str]) -> list[str]:
    """The Schedules of these actors, and of those with whom they share one: a role's are its person's, too."""
    statement = (
        "SELECT DISTINCT b.schedule FROM schedule_actor a JOIN schedule_actor p ON p.schedule = a.schedule AND p.actor LIKE 'Practitioner/%%'"
        " JOIN schedule_actor b ON b.actor = p.actor WHERE a.actor = ANY(%s)"
        " UNION SELECT schedule FROM schedule_actor WHERE actor = ANY(%s)"
    )
    return [schedule for (schedule,) in connection.execute(statement, (list(names), list(names))).fetchall()]


def booked(connection: Connection, ids: Sequence[str], lo: datetime, hi: datetime) -> list[tuple[str, str, str, datetime, datetime]]:
    """What appointments hold of the people of these Schedules: Schedule, actor, the appointment's id, and when; holds that expire are left out."""
    statement = (
        "SELECT a.schedule, o.actor, r.id, lower(o.during), upper(o.during) FROM schedule_actor a"
        " CROSS JOIN LATERAL (SELECT * FROM occupancy o WHERE o.actor = a.actor AND o.during && tstzrange(%s, %s) OFFSET 0) AS o"
        " JOIN resource r USING (rid)"
        " WHERE a.schedule = ANY(%s) AND a.room IS NOT NULL AND a.actor LIKE 'Practitioner/%%' AND o.expires IS NULL ORDER BY 4"
    )
    return connection.execute(statement, (lo, hi, list(ids))).fetchall()


def pending_holds(connection: Connection, registry: Registry, url: str, limit: int) -> list[str]:
    """The ids of pending Appointments with an extension of this URL, the oldest first."""
    statement = (
        "SELECT r.id FROM sp_token t JOIN resource r USING (rid) JOIN resource_version v USING (vid)"
        " WHERE t.pid = %s AND t.code = 'pending' AND NOT r.deleted AND position(%s IN v.body) > 0 ORDER BY r.rid LIMIT %s"
    )
    pid = registry.supported_params("Appointment")["status"].pid
    return [identity for (identity,) in connection.execute(statement, (pid, url, limit)).fetchall()]


def booked_between(connection: Connection, registry: Registry, lo: datetime, hi: datetime, limit: int) -> list[str]:
    """The ids of booked Appointments that begin in a span of time."""
    statement = (
        "SELECT DISTINCT r.id FROM sp_date d JOIN sp_token t USING (rid) JOIN resource r USING (rid)"
        " WHERE d.pid = %s AND d.lo >= %s AND d.lo <= %s AND t.pid = %s AND t.code = 'booked' AND NOT r.deleted LIMIT %s"
    )
    known = registry.supported_params("Appointment")
    return [identity for (identity,) in connection.execute(statement, (known["date"].pid, lo, hi, known["status"].pid, limit)).fetchall()]


def waiting(connection: Connection, registry: Registry, limit: int) -> list[str]:
    """The ids of the Appointments on the waiting list, the oldest first."""
    statement = (
        "SELECT r.id FROM sp_token t JOIN resource r USING (rid) WHERE t.pid = %s AND t.code = 'waitlist' AND NOT r.deleted ORDER BY r.rid LIMIT %s"
    )
    pid = registry.supported_params("Appointment")["status"].pid
    return [identity for (identity,) in connection.execute(statement, (pid, limit)).fetchall()]


def has_offer(connection: Connection, appointment: str, at: datetime) -> bool:
    """Whether somebody on the waiting list has an offer that has not expired."""
    return bool(scalar(connection, "SELECT EXISTS (SELECT FROM waiting_offer WHERE appointment = %s AND expires > %s)", appointment, at))


def was_offered(connection: Connection, appointment: str, schedule: str, start: datetime) -> bool:
    """Whether somebody on the waiting list was offered this time before."""
    statement = "SELECT EXISTS (SELECT FROM waiting_offer WHERE appointment = %s AND schedule = %s AND start = %s)"
    return bool(scalar(connection, statement, appointment, schedule, start))


def note_offer(connection: Connection, appointment: str, schedule: str, start: datetime, expires: datetime) -> None:
    """Notes that somebody on the waiting list is offered a time."""
    connection.execute(
        "INSERT INTO waiting_offer (appointment, schedule, start, expires) VALUES (%s, %s, %s, %s)", (appointment, schedule, start, expires)
    )


def actors(connection: Connection, ids: Collection[str]) -> dict[str, set[str]]:
    """By Schedule, whose time it is."""
    found: dict[str, set[str]] = {identity: set() for identity in ids}
    for schedule, actor in connection.execute("SELECT schedule, actor FROM schedule_actor WHERE schedule = ANY(%s)", (list(ids),)).fetchall():
        found[schedule].add(actor)
    return found


def to_come(connection: Connection, actor: str, at: datetime) -> int:
    """How many appointments somebody has that hold time after a moment."""
    statement = "SELECT count(*) FROM occupancy WHERE actor = %s AND during && tstzrange(%s, NULL) AND (expires IS NULL OR expires > %s)"
    found: int = scalar(connection, statement, actor, at, at)
    return found


def author(connection: Connection, resource_type: int, identity: str) -> str | None:
    """Who has written the first version of a resource, as the grant named them; None where there is none."""
    statement = (
        "SELECT t.actor FROM resource r JOIN resource_version v ON v.rid = r.rid AND v.version = 1 JOIN transaction t USING (txn)"
        " WHERE r.type = %s AND r.id = %s"
    )
    found: str | None = scalar(connection, statement, resource_type, identity)
    return found


def lock(connection: Connection, resource_type: int, identity: str) -> int:
    """Waits until nobody else changes a resource, and keeps others from it until the transaction ends; its number, 0 for none.

    Comes before all other locks.
    """
    return scalar(connection, "SELECT rid FROM resource WHERE type = %s AND id = %s FOR NO KEY UPDATE", resource_type, identity) or 0


def queue_up(connection: Connection, key: str) -> None:
    """Waits until nobody else does the same under this key in a transaction. Comes before all other locks."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 19))", (key,))
