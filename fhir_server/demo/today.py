"""The day that is going on in the demo clinic: who is booked, who has been seen, who waits in which zone, and who is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.clinic.acting import Act
from fhir_server.clinic.queue.arriving import check_in, walk_in
from fhir_server.clinic.queue.moving import call_next, happen
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store

from .history import Person, Visit, appointment, resources, starts
from .places import DOCTORS, LOCATIONS

Json = dict[str, Any]
_BUSY: Final = 0.6
"""The share of the day that is booked."""
_LATE: Final = timedelta(minutes=75)
"""Those whose time was longer ago have been seen."""
_WALKED_IN: Final = (("emergency", 4), ("follow-up", 38), ("regular", 55), ("regular", 31), ("follow-up", 9), ("regular", 12), ("regular", 3))
"""Zones, and how many minutes ago they have come."""
_RESULTS: Final = ("registered", "preliminary", "final")
_REASONS: Final = {"emergency": "Chest pain", "follow-up": "Change of dressing", "regular": "Sore throat"}


class Today:
    """One day of the demo clinic, as it is at a moment."""

    def __init__(self, everybody: Sequence[Person], now: datetime, zone: ZoneInfo) -> None:
        """Takes who may come, the time, and the clinic's zone."""
        self._now, self._zone = now.astimezone(zone), zone
        self._chance = Random(f"{self._now:%Y-%m-%d}")  # noqa: S311 - people who are made up
        come = self._chance.sample(list(everybody), len(everybody))
        self._walking, self._booked = come[: len(_WALKED_IN) * len(LOCATIONS)], iter(come[len(_WALKED_IN) * len(LOCATIONS) :])
        self._visits = list(self._plan())

    def _plan(self) -> Iterator[Visit]:
        for doctor in DOCTORS:
            times = starts(doctor, self._now.date(), self._zone) if self._now.strftime("%a").lower() in doctor.days else []
            for start in times:
                person = next(self._booked, None) if self._chance.random() < _BUSY else None
                if person is not None:
                    yield Visit(f"demo-t-{start:%m%d}-{doctor.id[5:]}-{start:%H%M}", person, doctor, start, first=self._chance.random() < _BUSY)

    def resources(self) -> Iterator[Json]:
        """What is known of the day so far, but for those who are there now."""
        for number, visit in enumerate(self._visits):
            if visit.start < self._now - _LATE:
                # The laboratory has not answered yet, or nobody has looked at it.
                yield from resources(visit, _RESULTS[number % len(_RESULTS)])
            else:
                yield appointment(visit, "booked")

    def fill(self, store: Store) -> None:
        """Lets people come to both locations, and the first of them be called. Raises Outcome as the store, for nothing else than that it is away."""
        for number, (location, _, _) in enumerate(LOCATIONS):
            waiting = [visit for visit in self._visits if visit.doctor.location == location and self._now - _LATE <= visit.start <= self._now]
            for visit in waiting[:4]:
                self._do(store, visit.start - timedelta(minutes=5), check_in, visit.name)
            walking = self._walking[number * len(_WALKED_IN) :]
            for person, (zone, minutes) in zip(walking, _WALKED_IN, strict=False):
                self._do(store, self._now - timedelta(minutes=minutes), walk_in, person.id, location, zone, _REASONS[zone])
            self._called(store, location)

    def _called(self, store: Store, location: str) -> None:
        doctors = [doctor for doctor in DOCTORS if doctor.location == location][:2]
        for number, doctor in enumerate(doctors):
            at = self._now - timedelta(minutes=2 - number)
            commit = self._do(store, at, call_next, location, f"Practitioner/{doctor.id}", str(number + 1))
            called = commit.written[0].version if commit is not None else None
            if called is not None and number == 0:
                self._do(store, at + timedelta(minutes=1), happen, called.id, "start")

    @staticmethod
    def _do(store: Store, at: datetime, what: Any, *arguments: Any) -> Any:
        """Something that somebody has done at that time; nothing where it cannot be done, as somebody may have begun to play with the clinic."""
        by = store.by(lambda: at)
        with suppress(Outcome):
            return what(by, Act(what.__name__.replace("_", "-"), SYSTEM), *arguments)
        return None
