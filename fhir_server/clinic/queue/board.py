"""What the board of a queue shows, and where one person stands in it: tokens, never who they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fhir_server.clinic.acting import Act, visible
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.rules.queueing import queue
from fhir_server.store.rules.queueing.queue import Standing

from .order import Limits, estimate, in_order, is_over, waited
from .places import limits_at

_SHOWN: Final = {"paused": "in-service"}
_ORDER: Final = ("in-service", "paused", "called")
_USUAL: Final = 12.0
"""Minutes of a visit where nothing is known of the last ones."""
_LOOK_BACK: Final = timedelta(hours=4)
_PACE: Final = """
SELECT avg(extract(epoch FROM ended - started) / 60) FILTER (WHERE ending = 'completed' AND started IS NOT NULL AND ended > %s),
    count(DISTINCT coalesce(practitioner, room, encounter)) FILTER (WHERE state IN ('called', 'in-service'))
FROM queue_entry WHERE location = %s AND (state <> 'ended' OR arrived > %s)
"""


class Line(NamedTuple):
    """One on the board. `position` counts those who wait, from 1; who is called or seen has 0. `waited` is in minutes, until the call."""

    encounter: str
    token: str
    zone: str
    state: str
    position: int
    waited: int
    room: str | None
    alert: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody stands: how many are `ahead`, and in how many minutes they may be called."""

    position: int
    ahead: int
    estimate: int


def lines(connection: Connection, location: str, now: datetime) -> list[Line]:
    """All who stand in a queue, in served order: who is seen, who is called, who waits. Two statements."""
    limits, there = limits_at(connection, location), queue.standing(connection, location)
    begun = sorted((each for each in there if each.state != "waiting"), key=lambda each: (_ORDER.index(each.state), each.changed, each.token))
    waiting = in_order((each for each in there if each.state == "waiting"), now, limits)
    return [_line(each, 0, now, limits) for each in begun] + [_line(each, number, now, limits) for number, each in enumerate(waiting, 1)]


def _line(entry: Standing, position: int, now: datetime, limits: Mapping[str, Limits]) -> Line:
    until = now if position else entry.called or now
    over = bool(position) and is_over(entry, now, limits)
    state = _SHOWN.get(entry.state, entry.state)
    return Line(entry.encounter, str(entry.token), entry.zone, state, position, int(waited(entry, until)), entry.room, over, entry.state == "paused")


def require_board(grant: Grant, location: str) -> None:
    """Raises Outcome `forbidden` for whoever may not look at a board: patients, and tokens of another one."""
    if grant.board == location or _is_of_the_clinic(grant):
        return
    raise Outcome("forbidden", "The board is for those who work here, and for its own token")


def _is_of_the_clinic(grant: Grant) -> bool:
    open_to_all = any(way.patient is None for way in grant.ways("Encounter"))
    return open_to_all and (bool(grant.roles - {"patient"}) or not grant.roles)


def board(store: Store, grant: Grant, location: str, db: Snapshot | None = None) -> bytes:
    """The board of a Location, as a Parameters resource in JSON; with `encounter` for those who may see it.

    Raises Outcome `forbidden`, and `not-found` and `gone` where there is no such Location.
    """
    require_board(grant, location)
    if db is None:
        with store.snapshot(SYSTEM) as opened:
            return board(store, grant, location, opened)
    visible(db, Act("queue-board", SYSTEM if grant.board == location else grant), "Location", location)
    found = lines(db.connection, location, store.clock())
    return rendered(location, found, db.seen_by(grant).open_ids("Encounter", [each.encounter for each in found]))


def rendered(location: str, those: Iterable[Line], seen: frozenset[str] = frozenset()) -> bytes:
    """A board as JSON; `seen` are the Encounters that the reader may see."""
    entries = "".join(_entry(each, seen) for each in those)
    place = f'{{"name":"location","valueReference":{{"reference":"Location/{location}"}}}}'
    return f'{{"resourceType":"Parameters","parameter":[{place}{entries}]}}'.encode()


def _entry(line: Line, seen: frozenset[str]) -> str:
    # Put together as text, which is a third of the time: all but the room is digits, ids and codes.
    room = f',{{"name":"room","valueString":{json.dumps(line.room)}}}' if line.room is not None else ""
    encounter = f',{{"name":"encounter","valueReference":{{"reference":"Encounter/{line.encounter}"}}}}' if line.encounter in seen else ""
    alert = ',{"name":"alert","valueBoolean":true}' if line.alert else ""
    paused = ',{"name":"paused","valueBoolean":true}' if line.paused else ""
    return (
        f',{{"name":"entry","part":[{{"name":"token","valueString":"{line.token}"}},{{"name":"zone","valueCode":"{line.zone}"}},'
        f'{{"name":"state","valueCode":"{line.state}"}},{{"name":"position","valueInteger":{line.position}}},'
        f'{{"name":"waited","valueInteger":{line.waited}}}{room}{encounter}{alert}{paused}]}}'
    )


def place_of(store: Store, grant: Grant, encounter: str) -> Place:
    """Where an Encounter stands in its queue. Raises Outcome `not-found` where the caller may not see it or it stands in none, `gone`."""
    with store.snapshot(SYSTEM) as db:
        visible(db, Act("queue-position", grant), "Encounter", encounter)
        connection, now = db.connection, store.clock()
        entry = queue.entry_of(connection, encounter)
        if entry is None:
            raise Outcome("not-found", f"Encounter/{encounter} stands in no queue")
        position = next(line.position for line in lines(connection, entry.location, now) if line.encounter == encounter)
        minutes, rooms = connection.execute(_PACE, (now - _LOOK_BACK, entry.location, now - _LOOK_BACK)).fetchall()[0]
    ahead = max(position - 1, 0)
    return Place(position, ahead, estimate(ahead, float(minutes or _USUAL), rooms))
