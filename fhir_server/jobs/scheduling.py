"""Tasks of scheduling: Slots that follow the rules, holds that expire, people who have not come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from celery import Celery

from fhir_server.clinic.scheduling import publishing, upkeep, waiting
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.outbox import Change, listen

from .application import OPTIONS
from .relay import Task

SETTLED: Final = 15
"""Seconds after which a new Schedule without Slots is taken to leave them to the rules."""


def hear(connection: Connection, changes: Sequence[Change]) -> set[Task]:
    """Asks for the Slots of those Schedules that changes of the directory are about."""
    return {("scheduling.publish", schedule) for schedule in publishing.concerned(connection, changes)}


def define_scheduling(app: Celery, store: Store) -> None:
    """Gives an application its tasks, and has the consumer hear of what rules are made of."""
    with store.database.connection() as connection, connection.transaction():
        listen(connection, publishing.CONSUMER, publishing.TYPES)

    @app.task(name="scheduling.publish", **OPTIONS)
    def publish(schedule: str) -> None:
        """Brings the Slots of a Schedule to its rules: at once where it says itself how they are made, else a little later."""
        if publishing.publish(store, schedule, at_once=True) is None:
            settle.apply_async((schedule,), countdown=SETTLED)

    @app.task(name="scheduling.settle", **OPTIONS)
    def settle(schedule: str) -> None:
        """Brings the Slots of a Schedule to its rules whose Slots somebody would have begun to write by now, were that meant."""
        publishing.publish(store, schedule)

    @app.task(name="scheduling.roll", **OPTIONS)
    def roll() -> None:
        """Brings the Slots of all Schedules to their rules, for the days that have come nearer too."""
        for schedule in publishing.ruled(store):
            publishing.publish(store, schedule)

    @app.task(name="scheduling.holds", **OPTIONS)
    def holds() -> None:
        """Cancels what has expired."""
        upkeep.expire_holds(store)

    @app.task(name="scheduling.no-shows", **OPTIONS)
    def no_shows() -> None:
        """Notes who has not come."""
        upkeep.note_no_shows(store)

    @app.task(name="scheduling.waiting", **OPTIONS)
    def offer() -> None:
        """Offers what has become free to those who wait."""
        waiting.offer_free(store)
