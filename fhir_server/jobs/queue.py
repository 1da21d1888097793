"""The tasks of queues: alerts, and the end of the day."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from celery import Celery

from fhir_server.clinic.queue.upkeep import close_day, watch
from fhir_server.store import Store

from .application import OPTIONS


def define_queue(app: Celery, store: Store, zone: ZoneInfo) -> None:
    """Gives an application the tasks; `zone` is the clinic's."""

    @app.task(name="queue.watch", **OPTIONS)
    def watch_queues() -> None:
        """Raises the alert of those who wait for too long."""
        watch(store)

    @app.task(name="queue.close", **OPTIONS)
    def close_queues() -> None:
        """Ends what is left over from days that are over."""
        close_day(store, zone)
