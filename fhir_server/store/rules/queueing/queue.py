"""The queue as rows: one for each Encounter that stands in it or has stood in it, and what has happened to each.

R4 has no place for the order of a queue, for calls and for tokens' counters. A row begins with an operation (check-in, walk-in) and follows its
Encounter from then on through every door; see `following`. Whoever changes a row holds the lock of its Encounter, taken first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import date, datetime
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

CHANNEL: Final = "queue"
"""Where a notification names the Location whose queue has changed, at each commit."""

State = Literal["waiting", "called", "in-service", "paused", "ended"]

_ZONE: Final = "http://hl7.org/fhir/StructureDefinition/timezone"


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody in a queue. Waiting counts from `credit`; `called` is when for the first time, `changed` when the state changed last."""

    encounter: str
    location: str
    patient: str | None
    appointment: str | None
    day: date
    token: int
    zone: str
    assigned: datetime
    credit: datetime
    arrived: datetime
    state: State
    changed: datetime
    called: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    ending: str | None = None
    room: str | None = None
    practitioner: str | None = None
    recalls: int = 0
    skipped: datetime | None = None
    alerted: datetime | None = None


class Standing(NamedTuple):
    """What of an entry its place in the order, and the board, are made of. A whole Entry takes three times as long."""

    encounter: str
    location: str
    patient: str | None
    token: int
    zone: str
    state: State
    assigned: datetime
    credit: datetime
    changed: datetime
    called: datetime | None
    skipped: datetime | None
    room: str | None
    alerted: datetime | None


@dataclass(frozen=True, slots=True)
class Happened:
    """An event: what, when, by whom, and what undoing it brings back."""

    event: str
    at: datetime
    actor: str
    reason: str | None = None
    before: str | None = None


_NAMES: Final = tuple(field.name for field in fields(Entry))
_COLUMNS: Final = ", ".join(_NAMES)
_SAVE: Final = f"""
WITH e AS (
    INSERT INTO queue_entry ({_COLUMNS}) VALUES ({", ".join(["%s"] * len(_NAMES))})
    ON CONFLICT (encounter) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])}),
h AS (
    INSERT INTO queue_event (encounter, location, at, event, zone, state, actor, reason, before) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s))
SELECT pg_notify('{CHANNEL}', x.location) FROM unnest(%s::text[]) AS x(location)
"""
_STANDING: Final = f"SELECT {', '.join(Standing._fields)} FROM queue_entry WHERE location = %s AND state <> 'ended'"
_THERE: Final = f"SELECT {', '.join(Standing._fields)} FROM queue_entry WHERE location = %(location)s AND state = 'waiting'"
_FIRST: Final = f"""
({_THERE} AND zone = 'emergency' ORDER BY assigned, credit, token)
UNION ALL ({_THERE} AND zone = 'follow-up' AND NOT coalesce(skipped > %(since)s, false) ORDER BY credit, token LIMIT %(count)s)
UNION ALL ({_THERE} AND zone = 'regular' AND NOT coalesce(skipped > %(since)s, false) ORDER BY credit, token LIMIT %(count)s)
UNION ALL ({_THERE} AND zone <> 'emergency' AND skipped > %(since)s)
"""
_ENTRIES: Final = f"""
SELECT {_COLUMNS}, xmin = pg_current_xact_id()::xid FROM queue_entry WHERE encounter = ANY(%s) ORDER BY encounter FOR UPDATE
"""
_NEXT_NUMBER: Final = """
WITH n AS (
    INSERT INTO queue_counter (location, day, last) VALUES (%(location)s, %(day)s, 1)
    ON CONFLICT (location, day) DO UPDATE SET last = queue_counter.last + 1 RETURNING last)
SELECT last, EXISTS (SELECT FROM queue_entry q WHERE q.location = %(location)s AND q.token = last AND q.state <> 'ended') FROM n
"""
_LOCK: Final = """
SELECT r.rid FROM resource r JOIN queue_entry q ON q.encounter = r.id WHERE r.type = (SELECT tid FROM resource_type WHERE name = 'Encounter')
AND r.id = %s AND q.state = 'waiting' AND q.location = %s FOR NO KEY UPDATE OF r, q
"""
_LOCK_VISIT: Final = "SELECT FROM resource WHERE type = (SELECT tid FROM resource_type WHERE name = 'Encounter') AND id = %s FOR NO KEY UPDATE"


def save(connection: Connection, entry: Entry, happened: Happened, *left: str) -> None:
    """Writes a new or changed entry with what has happened; those who watch its queue, and any that it has `left`, hear of it at the commit."""
    happening = (entry.encounter, entry.location, happened.at, happened.event, entry.zone, entry.state)
    told = (happened.actor, happened.reason, happened.before)
    connection.execute(_SAVE, (*astuple(entry), *happening, *told, sorted({entry.location, *left})))


def lock(connection: Connection, encounter: str) -> None:
    """Locks an Encounter, by id, until the transaction ends: before its entry, as whoever writes the resource does."""
    connection.execute(_LOCK_VISIT, (encounter,))


def entries(connection: Connection, encounters: Sequence[str]) -> list[tuple[Entry, bool]]:
    """The entries of some Encounters, by id, whether ended or not, each with whether this transaction has written it. Locks them."""
    rows = connection.execute(_ENTRIES, (list(encounters),))
    return [(Entry(*row[:-1]), row[-1]) for row in rows]


def entry_of(connection: Connection, encounter: str) -> Entry | None:
    """The entry of an Encounter, by id, that has not ended. Locks nothing."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM queue_entry WHERE encounter = %s AND state <> 'ended'", (encounter,)).fetchone()
    return Entry(*row) if row else None


def standing(connection: Connection, location: str) -> list[Standing]:
    """All who stand in a queue now, in no order."""
    return list(map(Standing._make, connection.execute(_STANDING, (location,)).fetchall()))


def first(connection: Connection, location: str, absent_since: datetime, count: int) -> list[Standing]:
    """Those who wait among whom the next so many are, in no order: emergencies, who was skipped since, and of others the first of each zone.

    Within a zone the order is that of the times from which waiting counts, so that of a full room few have to be compared.
    """
    values = {"location": location, "since": absent_since, "count": count}
    return list(map(Standing._make, connection.execute(_FIRST, values).fetchall()))


def of_patient(connection: Connection, patient: str, location: str) -> Entry | None:
    """A patient's entry that has not ended; until the transaction ends nobody else asks for the same."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", (f"queue {patient} {location}",))
    statement = f"SELECT {_COLUMNS} FROM queue_entry WHERE patient = %s AND location = %s AND state <> 'ended' LIMIT 1"
    row = connection.execute(statement, (patient, location)).fetchone()
    return Entry(*row) if row else None


def take(connection: Connection, entry: Standing, *, wait: bool) -> Entry | None:
    """Locks somebody who waits, and their Encounter; None where they wait no more, or somebody else is at them and there is no `wait`."""
    if connection.execute(_LOCK + ("" if wait else " SKIP LOCKED"), (entry.encounter, entry.location)).fetchone() is None:
        return None
    # What was read before the lock may be of yesterday.
    ((found, _),) = entries(connection, [entry.encounter])
    return found if found.state == "waiting" and found.location == entry.location else None


def token(connection: Connection, location: str, day: date) -> int:
    """The next token of a queue and day. Others who ask for one wait until the transaction ends, so that none is given twice.

    What somebody has who is still there since the day before is passed over: a board shows tokens alone.
    """
    while True:
        ((number, taken),) = connection.execute(_NEXT_NUMBER, {"location": location, "day": day}).fetchall()
        if not taken:
            return int(number)


def limits(connection: Connection, location: str) -> dict[str, tuple[int, int]]:
    """Target and maximum minutes by zone that a place has of its own."""
    rows = connection.execute("SELECT zone, target, maximum FROM queue_setting WHERE location = %s", (location,))
    return {zone: (target, maximum) for zone, target, maximum in rows}


def last_event(connection: Connection, encounter: str) -> tuple[int, str, datetime, str, str | None] | None:
    """Number, name, time, state from then on, and what undoing brings back, of the last event that has not been undone."""
    statement = (
        "SELECT id, event, at, state, before FROM queue_event WHERE encounter = %s AND NOT undone AND event <> 'undo' ORDER BY id DESC LIMIT 1"
    )
    return connection.execute(statement, (encounter,)).fetchone()


def undone(connection: Connection, number: int) -> None:
    """Marks an event as undone."""
    connection.execute("UPDATE queue_event SET undone = true WHERE id = %s", (number,))


def moved(entry: Entry, state: State, at: datetime) -> Entry:
    """The entry in another state: who is seen was called, who waits again has no room."""
    changed = replace(entry, state=state, changed=at if state != entry.state else entry.changed)
    if state == "waiting":
        return replace(changed, room=None, ended=None, ending=None)
    if state == "in-service":
        return replace(changed, called=entry.called or at, started=entry.started or at, skipped=None, ended=None, ending=None)
    return changed


def ended(entry: Entry, ending: str, at: datetime) -> Entry:
    """The entry at its end."""
    return replace(entry, state="ended", changed=at, ended=at, ending=ending)


def sent_on(entry: Entry, at: datetime) -> Entry:
    """The entry of somebody who waits in another queue from now on: nobody there has called them."""
    return replace(moved(entry, "waiting", at), called=None, practitioner=None, skipped=None)


def day_at(location: Mapping[str, Any], now: datetime, zone: ZoneInfo) -> date:
    """The date at a Location, by its own time zone or else the clinic's."""
    named = next((each.get("valueCode") for each in location.get("extension", ()) if each.get("url") == _ZONE), None)
    with contextlib.suppress(OSError, ValueError, LookupError):
        zone = ZoneInfo(named) if named else zone
    return now.astimezone(zone).date()


def refuse_closed(location: Mapping[str, Any], identity: str) -> None:
    """Raises Outcome `business-rule` for a Location that is not in use."""
    if (status := location.get("status")) in {"inactive", "suspended", "not there"}:
        raise Outcome("business-rule", f"Location/{identity} is {status}: nobody can queue there", expression="Encounter.location")
