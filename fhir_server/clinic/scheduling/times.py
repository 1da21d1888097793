"""Whether the time that an appointment asks for is offered, and what else is, where it is taken."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from fhir_server.outcome import Issue, Outcome
from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.search.params.reference import locate
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.claims import moment, party
from fhir_server.store.rules.scheduling.openings import Piece

from .offers import Offer, Sight, Wanted, covers, offers
from .rules import Planner

_ALTERNATIVES: Final = 3
_ALTERNATIVES_WITHIN: Final = timedelta(days=14)
_MOST_SLOTS: Final = 200


@dataclass(frozen=True, slots=True)
class Time:
    """A time that is offered, with the Schedules that offer it and the Slots that it takes."""

    lo: datetime
    hi: datetime
    schedules: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a time is looked for: with a planner, by somebody with this `sight`; what the appointment with the number `apart` holds is free."""

    planner: Planner
    sight: Sight
    apart: int = 0

    @property
    def connection(self) -> Connection:
        """What it is looked for through."""
        return self.planner.db.connection

    @property
    def registry(self) -> Registry:
        """The search parameters."""
        return self.planner.registry

    @property
    def at(self) -> datetime:
        """Now."""
        return self.planner.at


def span_of(resource: Resource) -> tuple[datetime, datetime]:
    """From when to when an appointment is. Raises Outcome `invalid` where it does not say so."""
    lo, hi = moment(resource.get("start")), moment(resource.get("end"))
    if lo is None or hi is None or lo >= hi:
        raise Outcome("invalid", "An appointment that takes time has a start and a later end", expression="Appointment.start")
    return lo, hi


def offered(place: Place, resource: Resource) -> Time:
    """The time of an appointment, where it is offered: the Slots that it names, or some of those whose time it takes.

    Raises Outcome `conflict` where the time is taken, `business-rule` where it is not offered at all, and is not to come.
    """
    lo, hi = span_of(resource)
    if lo < place.at:
        raise Outcome("business-rule", "The time is over", expression="Appointment.start")
    names = slots_of(resource, place.registry)
    rows = list(_named_rows(place, names, lo, hi)) if names else _best_rows(place, resource, lo, hi)
    if not rows:
        raise _not_offered(lo, hi, place.registry)
    found = [piece for row in rows for piece in row]
    if len(place.sight(found)) < len({piece.id for piece in found if piece.id}):
        raise _not_offered(lo, hi, place.registry)
    if not all(_is_free(place, row, lo, hi) for row in rows):
        raise Outcome("conflict", f"The time from {told(lo, hi, place.registry)} is taken", expression="Appointment.start")
    return Time(lo, hi, tuple(dict.fromkeys(piece.schedule for piece in found)), tuple(found))


def alternatives(place: Place, resource: Resource) -> list[Issue]:
    """What is free instead of a time that is taken, with the same Schedules and as long: a few notices, none where nothing is known."""
    lo, hi = moment(resource.get("start")), moment(resource.get("end"))
    if lo is None or hi is None or lo >= hi:
        return []
    named = openings.named(place.connection, slots_of(resource, place.registry))
    ids = list(dict.fromkeys(piece.schedule for piece in named)) or list(_schedules_of(place, resource))
    start = max(lo, place.at)
    wanted = Wanted(ids, start, start + _ALTERNATIVES_WITHIN, hi - lo)
    found = islice(offers(place.planner, wanted, place.sight), _ALTERNATIVES)
    return [Issue("information", "informational", f"Free: {told(each.lo, each.hi, place.registry)} ({_named(each)})") for each in found]


def _named(offer: Offer) -> str:
    slot = offer.pieces[0].id
    return f"Slot/{slot}" if slot else f"Schedule/{offer.schedule}"


def slots_of(resource: Resource, registry: Registry) -> list[str]:
    """The ids of the Slots that an appointment names. Raises Outcome `invalid` for a reference to anything else, and too many."""
    found: list[str] = []
    for number, reference in enumerate(resource.get("slot", ())):
        text = reference.get("reference")
        at = locate(text, registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
        if at is None or at[1] != registry.types["Slot"] or number >= _MOST_SLOTS:
            raise Outcome("invalid", f"A slot is a reference such as Slot/7, {_MOST_SLOTS} at the most", expression=f"Appointment.slot[{number}]")
        found.append(at[0])
    return list(dict.fromkeys(found))


def slots_in_time(connection: Connection, resource: Resource, registry: Registry) -> list[Resource]:
    """References to the Slots that an appointment names, without those that it has left: who moves it by a plain write may leave them in."""
    names = slots_of(resource, registry)
    if not names:
        return []
    lo, hi = span_of(resource)
    left = {piece.id for piece in openings.named(connection, names) if piece.hi <= lo or hi <= piece.lo}
    return [{"reference": f"Slot/{name}"} for name in names if name not in left]


def parties_of(resource: Resource, registry: Registry) -> list[str]:
    """Who and what takes part in an appointment besides patients, as `occupancy` names them."""
    found = (party(each.get("actor"), registry) for each in resource.get("participant", ()))
    return [f"{each[0]}/{each[1]}" if each[0] else each[1] for each in found if each is not None and each[0] != "Patient"]


def told(lo: datetime, hi: datetime, registry: Registry) -> str:
    """A time for people, in the clinic's zone."""
    return f"{written(lo, registry)} to {written(hi, registry)}"


def written(when: datetime, registry: Registry) -> str:
    """A time as it stands in a resource, with the offset of the clinic's zone."""
    return when.astimezone(registry.zone).isoformat(timespec="milliseconds" if when.microsecond else "seconds")


def day_of(when: datetime, registry: Registry) -> tuple[datetime, datetime]:
    """The clinic's day in which a time is."""
    return parse_date(when.astimezone(registry.zone).date().isoformat(), registry.zone)


def _not_offered(lo: datetime, hi: datetime, registry: Registry) -> Outcome:
    return Outcome(
        "business-rule",
        f"The time from {told(lo, hi, registry)} is not offered; ask $find for those that are. Staff book others with `override` and a `reason`",
        expression="Appointment.start",
    )


def _named_rows(place: Place, names: Sequence[str], lo: datetime, hi: datetime) -> Iterator[list[Piece]]:
    found = openings.named(place.connection, names)
    if len(found) < len(names):
        raise _not_offered(lo, hi, place.registry)
    by_schedule: dict[str, list[Piece]] = {}
    for piece in found:
        by_schedule.setdefault(piece.schedule, []).append(piece)
    for row in by_schedule.values():
        if not covers(row, lo, hi):
            raise _not_offered(lo, hi, place.registry)
        yield row


def _schedules_of(place: Place, resource: Resource) -> dict[str, set[str]]:
    parties = parties_of(resource, place.registry)
    ids = openings.schedules(place.connection, None, parties, None, None) if parties else []
    return openings.actors(place.connection, ids)


def _best_rows(place: Place, resource: Resource, lo: datetime, hi: datetime) -> list[list[Piece]]:
    """Slots that make up the time, of one Schedule for each person who has any: of that which has most of those who take part, and is free."""
    by_schedule = _schedules_of(place, resource)
    parties = set(parties_of(resource, place.registry))
    listed = [*openings.around(place.connection, list(by_schedule), lo, hi), *place.planner.unwritten(list(by_schedule), lo, hi)]
    rows = _rows(sorted(listed, key=lambda piece: (piece.lo, piece.id)), lo, hi)
    ranked = sorted(rows, key=lambda row: (-len(parties & by_schedule[row[0].schedule]), not _is_free(place, row, lo, hi), row[0].id))
    chosen: list[list[Piece]] = []
    left = {each for each in parties if each.startswith("Practitioner/") and any(each in actors for actors in by_schedule.values())}
    for row in ranked:
        if not chosen or left & by_schedule[row[0].schedule]:
            chosen.append(row)
            left -= by_schedule[row[0].schedule]
    return [] if left else chosen


def _rows(found: Collection[Piece], lo: datetime, hi: datetime) -> list[list[Piece]]:
    following: dict[tuple[str, datetime], Piece] = {}
    for piece in found:
        there = following.get((piece.schedule, piece.lo))
        if there is None or (piece.is_open and not there.is_open):
            following[piece.schedule, piece.lo] = piece
    rows = []
    for piece in (each for each in found if each.lo <= lo < each.hi):
        row: list[Piece] = [piece]
        while row[-1].hi < hi and (after := following.get((piece.schedule, row[-1].hi))) is not None:
            row.append(after)
        if covers(row, lo, hi):
            rows.append(row)
    return rows


def _is_free(place: Place, row: Sequence[Piece], lo: datetime, hi: datetime) -> bool:
    if not all(piece.is_open for piece in row):
        return False
    taken = openings.held(place.connection, row, lo, hi, place.at, place.apart)
    return taken.leaves(row[0].schedule, [piece.id for piece in row], lo, hi)


def references(resource: Resource, registry: Registry) -> Iterable[tuple[str, dict[str, Any]]]:
    """Those who take part in an appointment, as `occupancy` names them, each with the participant; patients too."""
    for participant in resource.get("participant", ()):
        found = party(participant.get("actor"), registry)
        yield ("" if found is None else f"{found[0]}/{found[1]}" if found[0] else found[1]), participant
