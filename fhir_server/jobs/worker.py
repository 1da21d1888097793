"""The processes of background work: a worker with a few threads, and the scheduler that asks for what is done by the clock.

https://docs.celeryq.dev/en/stable/userguide/workers.html, https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from celery import Celery, signals

from fhir_server import process
from fhir_server.hl7v2.outbound import CONSUMER, Outbound
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store

from .application import RETRIES, application
from .broker import reach
from .relay import Relay

THREADS: Final = 8
"""Tasks at the same time, most of which wait for somebody else's answer."""

_log = logging.getLogger("fhir_server.jobs")


def run_worker(settings: Settings) -> None:
    """Works until SIGTERM or SIGINT; then what is at work ends, and what waits for an answer stops waiting within seconds.

    Raises Outcome `unavailable` where the database is away or not migrated, SetupError where the broker is.
    """
    reach(settings)
    # One more than tasks, for the relay.
    store = Store.of(settings, connections=THREADS + 1)
    leaving = threading.Event()
    try:
        app = application(settings)
        outbound = Outbound(store, settings, leaving)
        define(app, outbound)
        relay = Relay(store, {CONSUMER: outbound.hear}, lambda name, identity: app.send_task(name, (identity,)))

        @signals.worker_shutting_down.connect(weak=False)
        def leave(**_: Any) -> None:
            leaving.set()

        process.settle()
        relay.start()
        worker = app.Worker(pool="threads", concurrency=THREADS, without_gossip=True, without_mingle=True, without_heartbeat=True, loglevel="WARNING")
        worker.start()
        leaving.set()
        relay.stop()
    finally:
        store.close()


def run_scheduler(settings: Settings) -> None:
    """Asks for scheduled tasks until SIGTERM or SIGINT. Several at once do no harm. Raises SetupError where the broker is away."""
    reach(settings)
    application(settings).Beat(loglevel="WARNING", quiet=True, working_directory=None).run()


def define(app: Celery, outbound: Outbound) -> None:
    """Gives an application its tasks."""

    def passing(error: Outcome) -> bool:
        return error.category in {"unavailable", "conflict"}

    @app.task(name="hl7v2.deliver", bind=True, **RETRIES)
    def deliver(task: Any, peer: str) -> None:
        """Sends a peer what waits for it."""
        try:
            again = outbound.deliver(peer)
        except Outcome as error:
            if passing(error):
                raise task.retry(exc=error) from None
            raise
        if again is not None and again < _SOON:
            deliver.apply_async((peer,), countdown=again)

    @app.task(name="hl7v2.sweep", ignore_result=True)
    def sweep() -> None:
        """Asks for deliveries that are due, whoever has forgotten them."""
        for peer in outbound.due():
            deliver.delay(peer)

    @app.task(name="hl7v2.upkeep")
    def upkeep() -> None:
        """Takes out what was delivered long ago."""
        outbound.forget()


_SOON: Final = 10.0  # Seconds; what is due later the sweep finds.
