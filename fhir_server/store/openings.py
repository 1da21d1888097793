"""Questions about free time, asked of the rows of `slots` and `occupancy`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from .database import Connection, scalar
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
SELECT {_COLUMNS} FROM unnest(%s::text[]) AS x(schedule) JOIN slot_time s ON s.schedule = x.schedule AND s.during && tstzrange(%s, %s)
WHERE s.status = 'free' OR (s.kept AND s.status IN ('busy', 'busy-tentative')) ORDER BY lower(s.during), s.id LIMIT %s
"""
_AROUND: Final = f"""
SELECT {_COLUMNS} FROM unnest(%s::text[]) AS x(schedule) JOIN schedule_time t ON t.id = x.schedule AND t.active
JOIN slot_time s ON s.schedule = x.schedule AND s.during && tstzrange(%s, %s) WHERE s.status <> 'entered-in-error' ORDER BY 3, 1 LIMIT %s
"""
_NAMED: Final = f"SELECT {_COLUMNS} FROM slot_time s JOIN schedule_time t ON t.id = s.schedule AND t.active WHERE s.id = ANY(%s) ORDER BY 3, 1"
_HELD: Final = """
SELECT a.schedule, o.actor, a.room, lower(o.during), upper(o.during)
FROM schedule_actor a JOIN occupancy o ON o.actor = a.actor AND o.during && tstzrange(%s, %s)
WHERE a.schedule = ANY(%s) AND a.room IS NOT NULL AND (o.expires IS NULL OR o.expires > %s) AND o.rid <> %s ORDER BY 4
"""
_FILLED: Final = """
SELECT s.id, o.actor, s.room, lower(o.during), upper(o.during)
FROM unnest(%s::text[]) AS x(id) JOIN slot_time s ON s.id = x.id JOIN occupancy o ON o.actor = 'Slot/' || s.id AND o.during && tstzrange(%s, %s)
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
    """The Slots of active Schedules that overlap a time, whatever their status, the soonest first."""
    return [Piece(*row) for row in connection.execute(_AROUND, (list(ids), lo, hi, MOST_SLOTS)).fetchall()]


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
