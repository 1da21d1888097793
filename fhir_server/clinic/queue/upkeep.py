"""What is done about queues by the clock, and what is told of them: alerts, the end of the day, waits by zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.clinic.acting import Act, carry_out, resource_of
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Snapshot, Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Put, Resource
from fhir_server.store.rules.queueing import queue
from fhir_server.store.rules.queueing.following import PRIORITY
from fhir_server.store.rules.queueing.queue import Entry, Happened

from . import visits
from .order import DEFAULTS, is_over
from .places import limits_at

CLOSED: Final = "The day has ended"
_STALE: Final = timedelta(hours=4)
"""Whoever came before midnight is not sent away at midnight."""
_OPEN: Final = "SELECT DISTINCT location FROM queue_entry WHERE state <> 'ended'"
_LEFT_OVER: Final = "SELECT encounter FROM queue_entry WHERE location = %s AND state <> 'ended' AND day < %s AND changed < %s ORDER BY encounter"
_WAITS: Final = """
SELECT zone, count(*), count(*) FILTER (WHERE ending = 'left'), count(called), avg(w), percentile_cont(0.5) WITHIN GROUP (ORDER BY w),
    percentile_cont(0.9) WITHIN GROUP (ORDER BY w), max(w), count(alerted)
FROM (SELECT *, CASE WHEN called IS NOT NULL THEN greatest(extract(epoch FROM called - credit) / 60, 0)::float8 END AS w FROM queue_entry
    WHERE location = %s AND arrived >= %s AND arrived < %s) AS e
GROUP BY zone
"""


@dataclass(frozen=True, slots=True)
class Waits:
    """Those of a zone who came within a time: how many, how many were called and left and passed the maximum; minutes until the first call."""

    zone: str
    came: int
    left: int
    called: int
    mean: float | None
    median: float | None
    ninetieth: float | None
    longest: float | None
    alerts: int


def watch(store: Store) -> int:
    """Raises the alert of everybody who has waited for too long and has none yet; how many.

    The Encounter says then that they are to be looked at again now, so that whoever listens to its changes hears of it.
    """
    return sum(_alert(store, encounter) for location in _places(store) for encounter in _over(store, location))


def close_day(store: Store, zone: ZoneInfo) -> int:
    """Ends the entries of days that are over, each with the reason; how many. Whoever was not seen has left; a visit under way stays one."""
    now, count = store.clock(), 0
    for location in _places(store):
        with store.snapshot(SYSTEM) as db:
            place = resource_of(db.read("Location", location)) or {}
            rows = db.connection.execute(_LEFT_OVER, (location, queue.day_at(place, now, zone), now - _STALE)).fetchall()
        count += sum(_close(store, encounter, now) for (encounter,) in rows)
    return count


def statistics(connection: Connection, location: str, start: datetime, end: datetime) -> list[Waits]:
    """Waits at a Location of those who came from one time to before another, by zone."""
    return [Waits(*row) for row in connection.execute(_WAITS, (location, start, end)).fetchall()]


def minutes_of(connection: Connection, location: str) -> dict[str, dict[str, int]]:
    """Target and maximum of each zone at a Location."""
    return {zone: asdict(limits) for zone, limits in limits_at(connection, location).items()}


def set_minutes(connection: Connection, location: str, given: dict[str, dict[str, int]]) -> None:
    """Gives a Location minutes of its own for some zones. Raises Outcome `invalid` where a maximum is below its target."""
    for zone, minutes in given.items():
        if zone not in DEFAULTS or minutes["maximum"] < minutes["target"]:
            raise Outcome("invalid", "A zone's maximum is not below its target", expression=zone)
        connection.execute(
            "INSERT INTO queue_setting (location, zone, target, maximum) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (location, zone) DO UPDATE SET target = excluded.target, maximum = excluded.maximum",
            (location, zone, minutes["target"], minutes["maximum"]),
        )
    connection.execute("SELECT pg_notify(%s, %s)", (queue.CHANNEL, location))


def _places(store: Store) -> list[str]:
    with store.database.connection() as connection:
        return [location for (location,) in connection.execute(_OPEN).fetchall()]


def _over(store: Store, location: str) -> Iterable[str]:
    with store.database.connection() as connection:
        limits, now = limits_at(connection, location), store.clock()
        there = queue.standing(connection, location)
    return [each.encounter for each in there if each.state == "waiting" and each.alerted is None and is_over(each, now, limits)]


def _alert(store: Store, encounter: str) -> bool:
    def alerted(connection: Connection, entry: Entry, resource: Resource) -> Sequence[Op] | None:
        if entry.state != "waiting" or entry.alerted is not None:
            return None
        now = store.clock()
        queue.save(connection, replace(entry, alerted=now), Happened("alert", now, SYSTEM.actor, "has waited for too long"))
        return [Put(_due(resource, now), encounter)]

    return _by_clock(store, encounter, alerted)


def _due(resource: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The Encounter with now as the time when it is to be looked at again."""
    extensions = []
    for each in resource.get("extension", ()):
        parts = [part for part in each.get("extension", ()) if part.get("url") != "reassessDue"]
        is_ours = each.get("url") == PRIORITY
        extensions.append({**each, "extension": [*parts, {"url": "reassessDue", "valueInstant": instant(now)}]} if is_ours else each)
    return {**resource, "extension": extensions} if extensions else resource


def _close(store: Store, encounter: str, now: datetime) -> bool:
    def closed(connection: Connection, entry: Entry, resource: Resource) -> Sequence[Op] | None:
        if entry.state == "ended":
            return None
        was_seen = resource["status"] in {"in-progress", "onleave"}
        after = queue.ended(entry, "closed" if was_seen else "left", now)
        queue.save(connection, after, Happened("close", now, SYSTEM.actor, CLOSED))
        return [] if was_seen else [Put(visits.with_status(resource, "cancelled", now, entry), encounter)]

    return _by_clock(store, encounter, closed)


def _by_clock(store: Store, encounter: str, change: Callable[[Connection, Entry, Resource], Sequence[Op] | None]) -> bool:
    """Changes an entry in a transaction of its own; False where `change`, which sees it locked, gives None, or the Encounter is not there."""
    done: list[bool] = []

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        queue.lock(connection, encounter)
        ((entry, _),) = queue.entries(connection, [encounter])
        resource = resource_of(db.read("Encounter", encounter))
        ops = change(connection, entry, resource) if resource is not None else None
        done[:] = [ops is not None]
        return ops or ()

    carry_out(store, Act("queue-event", SYSTEM), prepare)
    return done[0]
