"""Slots made of rules for the coming weeks, and made again when the rules change: free ones only, and never those of booked time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Delete, Op, Put
from fhir_server.store.outbox import Change
from fhir_server.store.rules.scheduling import openings
from fhir_server.store.rules.scheduling.openings import Piece
from fhir_server.store.snapshot import Snapshot

from .availability import Span, open_times, visits
from .rules import HORIZON, Plan, Planner, apart, slot_id, slot_of

WINDOW: Final = timedelta(days=60)
"""For so long ahead there are Slots; what comes later is computed by $find."""
CONSUMER: Final = "scheduling"
"""Who hears of changes of TYPES."""
TYPES: Final = ("HealthcareService", "PractitionerRole", "Schedule")
"""What rules are made of."""
_MOST_AFFECTED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Affected:
    """An appointment to come, by id, at a time that the rules of a Schedule do not have (any more)."""

    appointment: str
    schedule: str
    actor: str
    start: datetime
    end: datetime


def publish(store: Store, schedule: str, *, at_once: bool = False) -> int | None:
    """Brings the free Slots of a Schedule to its rules, from now on for WINDOW; how many were made or taken away, None where it waits.

    What somebody has written by hand stays, and where there is something of it the Schedule's own parameters are needed for more. With `at_once` they
    are needed in any case, and it waits: whoever has just made a Schedule may be about to write its Slots. One transaction.
    """
    at = store.clock()
    counted: list[int | None] = []

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        openings.queue_up(connection, f"Schedule/{schedule}")
        there = openings.around(connection, [schedule], at, at + WINDOW)
        made = [piece for piece in there if piece.id == slot_id(schedule, Span(piece.lo, piece.hi))]
        by_hand = [piece for piece in there if piece not in made]
        plan = Planner(db, store.registry, at).plans([schedule]).get(schedule)
        wanted = visits(plan.rules, at, at + WINDOW) if plan is not None and (plan.says_so or not by_hand) else []
        waits = at_once and plan is not None and not plan.says_so
        ops = [] if waits else list(_changes(plan, schedule, wanted, made, by_hand))
        counted[:] = [None if waits else len(ops)]
        return ops

    store.transact(prepare, SYSTEM)
    return counted[0]


def _changes(plan: Plan | None, schedule: str, wanted: Sequence[Span], made: Sequence[Piece], by_hand: Sequence[Piece]) -> Iterable[Op]:
    """What is written: free Slots that are wanted no longer go, and those that are wanted and overlap nothing that stays come."""
    ids = {slot_id(schedule, span): span for span in wanted}
    gone = [piece for piece in made if piece.status == "free" and piece.id not in ids]
    yield from (Delete("Slot", piece.id) for piece in gone)
    staying = sorted([*by_hand, *(piece for piece in made if piece not in gone)], key=lambda piece: piece.lo)
    if plan is not None:
        for span in apart(wanted, staying):
            yield Put({**slot_of(plan, span), "id": (identity := slot_id(schedule, span))}, identity)


def ruled(store: Store) -> list[str]:
    """The Schedules that have rules."""
    with store.snapshot(SYSTEM) as db:
        ids = openings.schedules(db.connection, None, None, None, None)
        return sorted(Planner(db, store.registry, store.clock()).plans(ids))


def concerned(connection: Connection, changes: Sequence[Change]) -> set[str]:
    """The Schedules that changes of the directory are about."""
    named = {change.resource for change in changes if change.type == "Schedule"}
    actors = [f"{change.type}/{change.resource}" for change in changes if change.type != "Schedule"]
    return named | set(openings.schedules_behind(connection, actors))


def affected(store: Store, schedule: str | None = None) -> list[Affected]:
    """Appointments to come of people whose Schedules have rules, at times that these do not offer, the soonest first; up to 1,000."""
    at = store.clock()
    found: list[Affected] = []
    with store.snapshot(SYSTEM) as db:
        ids = [schedule] if schedule is not None else openings.schedules(db.connection, None, None, None, None)
        plans = Planner(db, store.registry, at).plans(ids)
        rows = openings.booked(db.connection, list(plans), at, at + HORIZON) if plans else []
        times = {identity: open_times(plan.rules, at, at + HORIZON) for identity, plan in plans.items()}
        inside: set[tuple[str, str]] = set()
        outside: dict[tuple[str, str], Affected] = {}
        for identity, actor, appointment, lo, hi in rows:
            # Whoever has several Schedules is there in any of them.
            if any(span.lo <= lo and hi <= span.hi for span in times[identity]):
                inside.add((appointment, actor))
            else:
                outside.setdefault((appointment, actor), Affected(appointment, identity, actor, lo, hi))
        found = [each for key, each in outside.items() if key not in inside]
    return sorted(found, key=lambda each: (each.start, each.appointment))[:_MOST_AFFECTED]
