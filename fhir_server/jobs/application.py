"""Celery as it is used here: tasks that carry ids only, as JSON, are acknowledged when they are done, and leave no results.

https://docs.celeryq.dev/en/stable/userguide/configuration.html

A task may run twice and may get lost with its worker: each looks at the database for what there is to do, does it once, and is asked for again by the
schedule as long as there is something to do.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery

from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from .broker import location

QUEUE: Final = "fhir-server"
SCHEDULE: Final = {
    "bulk.run": 3.0,
    "hl7v2.sweep": 10.0,
    "hl7v2.upkeep": 3600.0,
    "scheduling.holds": 20.0,
    "scheduling.no-shows": 300.0,
    "scheduling.roll": 900.0,
    "scheduling.waiting": 30.0,
    "queue.watch": 20.0,
    "queue.close": 900.0,
    "messages.sweep": 10.0,
    "messages.upkeep": 3600.0,
    "payments.settle": 60.0,
    "payments.compare": 3600.0,
    "subscriptions.sweep": 10.0,
    "subscriptions.upkeep": 3600.0,
}
"""What is done again and again, by the name of its task, and every so many seconds."""

OPTIONS: Final[dict[str, Any]] = {
    "autoretry_for": (Outcome,),
    "max_retries": 5,
    "retry_backoff": 1,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "shared": False,
}
"""Of every task: one that failed for a reason that passes is tried again after a second, two, four, up to a minute, each by chance shorter; and it is
of its own application alone."""

SOON: Final = 10.0
"""Seconds. What is due again before is asked for by its task; what is due later is found by the sweep."""


def application(settings: Settings) -> Celery:
    """A Celery application without tasks. Does not connect."""
    app = Celery("fhir-server", set_as_current=False, fixups=[])
    app.conf.update(
        **location(settings),
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        enable_utc=True,
        timezone="UTC",
        # It keeps when it did what in memory: what is done too early after a start is done twice, which changes nothing.
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=5,
        beat_schedule={
            # What nobody has taken until the next turn is not done later.
            name: {"task": name, "schedule": seconds, "options": {"expires": seconds}}
            for name, seconds in SCHEDULE.items()
        },
    )
    return app
