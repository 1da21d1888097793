"""Which times are offered: Slots whole, in parts, or several in a row, as long as a visit is to take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from fhir_server.store.rules.scheduling.openings import MOST_SLOTS, Piece, held, pieces

from .availability import Span
from .rules import Planner

_FIRST_WINDOW: Final = timedelta(days=2)
_LONGEST_ROW: Final = 200


class Offer(NamedTuple):
    """A free time of a Schedule, with the Slots that it takes, the first one first."""

    lo: datetime
    hi: datetime
    schedule: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: times of some Schedules that begin at `start` or later and are over at `end`, as long as `duration`, None for whole Slots.

    Where `services` are asked for, a Slot says one of them, or nothing while its Schedule is one of those that are `for_all` of them.
    """

    schedules: Sequence[str]
    start: datetime
    end: datetime
    duration: timedelta | None = None
    services: frozenset[str] | None = None
    for_all: frozenset[str] = frozenset()

    def is_for(self, piece: Piece) -> bool:
        """Whether what is looked for may be done in a Slot."""
        if self.services is None:
            return True
        return not self.services.isdisjoint(piece.services) if piece.services else piece.schedule in self.for_all


Sight = Callable[[Collection[Piece]], set[str]]
"""Those of some Slots, by id, that the caller may see; what has no id yet is for who sees its Schedule."""


def offers(planner: Planner, wanted: Wanted, sight: Sight) -> Iterator[Offer]:
    """The free times, the soonest first, as of the planner's moment, and none before it. Reads a few days at a time, more each time.

    All that is seen belongs together only in a transaction that keeps to one moment.
    """
    connection, at = planner.db.connection, planner.at
    lo, width = max(wanted.start, at), _FIRST_WINDOW
    while lo < wanted.end and wanted.schedules:
        hi = wanted.end if wanted.end - lo <= width else lo + width
        more = wanted.duration or timedelta()
        reach = wanted.end if wanted.end - hi <= more else hi + more
        found = pieces(connection, wanted.schedules, lo, reach)
        if len(found) == MOST_SLOTS and found[-1].lo - more > lo:
            # What comes behind was not read, nor what makes up a longer visit with it.
            hi = min(hi, found[-1].lo - more)
        found += planner.unwritten(wanted.schedules, lo, reach)
        if found:
            taken = held(connection, found, lo, max(piece.hi for piece in found), at)
            free = cut(found, wanted, lo, hi)
            free = [each for each in free if taken.leaves(each.schedule, [piece.id for piece in each.pieces], each.lo, each.hi)]
            seen = sight([piece for each in free for piece in each.pieces]) if free else set()
            yield from (each for each in free if all(piece.id in seen or not piece.id for piece in each.pieces))
        lo, width = hi, width * 2


def cut(found: Sequence[Piece], wanted: Wanted, lo: datetime, hi: datetime) -> list[Offer]:
    """What could be offered of some Slots from `lo` on and before `hi` if nothing were held, by time.

    Each offer begins where a Slot does, or so many durations later.
    """
    fitting = [piece for piece in found if wanted.is_for(piece)]
    following = {(piece.schedule, piece.lo): piece for piece in reversed(fitting)}
    made = [offer for piece in fitting for offer in _from(piece, wanted.duration, following, Span(lo, min(hi, wanted.end)))]
    return sorted((offer for offer in made if lo <= offer.lo < hi and offer.hi <= wanted.end), key=lambda offer: (offer.lo, offer.schedule))


def _from(piece: Piece, duration: timedelta | None, following: dict[tuple[str, datetime], Piece], within: Span) -> Iterator[Offer]:
    length = piece.hi - piece.lo
    if duration is None or length == duration:
        yield Offer(piece.lo, piece.hi, piece.schedule, (piece,))
    elif duration < length:
        # A Slot of years has many parts.
        first = max(0, (within.lo - piece.lo) // duration)
        for number in range(first, min(length // duration, max(0, -((piece.lo - within.hi) // duration)) + 1)):
            lo = piece.lo + number * duration
            yield Offer(lo, lo + duration, piece.schedule, (piece,))
    else:
        row = [piece]
        while row[-1].hi - piece.lo < duration and len(row) < _LONGEST_ROW:
            after = following.get((piece.schedule, row[-1].hi))
            if after is None:
                return
            row.append(after)
        if row[-1].hi - piece.lo >= duration:
            yield Offer(piece.lo, piece.lo + duration, piece.schedule, tuple(row))


def covers(row: Sequence[Piece], lo: datetime, hi: datetime) -> bool:
    """Whether Slots of one Schedule, in their order, are what `cut` offers for this time."""
    if not row or lo >= hi or any(one.hi != after.lo for one, after in pairwise(row)):
        return False
    if len(row) == 1:
        [piece] = row
        return piece.lo <= lo and hi <= piece.hi and (lo - piece.lo) % (hi - lo) == timedelta()
    return lo == row[0].lo and row[-1].lo < hi <= row[-1].hi
