"""The process that does background work: one, with a few threads. https://docs.celeryq.dev/en/stable/userguide/workers.html"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Final

from celery import Celery, signals
from celery.exceptions import SecurityWarning

from fhir_server import process
from fhir_server.clinic import messages as people
from fhir_server.clinic import subscriptions
from fhir_server.clinic.billing import triggers
from fhir_server.clinic.insurance import settling
from fhir_server.clinic.scheduling import publishing
from fhir_server.hl7v2.outbound import CONSUMER, Outbound
from fhir_server.interactions import Engine
from fhir_server.operations.bulk import Maker
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store

from . import scheduling
from .application import RETRIES, application
from .broker import reach
from .bulk import define_bulk
from .hooks import define_subscriptions
from .paying import define_payments
from .people import define_messages
from .queue import define_queue
from .relay import Relay

THREADS: Final = 8
"""Tasks at the same time, most of which wait for somebody else's answer."""
CONSUMERS: Final = 6
"""Those who hear of changes; see `run_worker`."""
SOON: Final = 10.0
"""Seconds. What is due later is found by the sweep."""


def run_worker(settings: Settings, ready: Callable[[str], None]) -> None:
    """Works until SIGTERM or SIGINT; then what is at work ends, and what waits for an answer stops waiting within seconds.

    Calls `ready` when it begins, with what to tell people.

    Raises Outcome `unavailable` where the database is away or not migrated, SetupError where the broker is.
    """
    reach(settings)
    # It is said to whoever runs as root, because of pickled tasks; these are JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    # A task holds one, and looks at the record by another; so does each consumer of the relay.
    store = Store.of(settings, connections=2 * (THREADS + CONSUMERS))
    leaving = threading.Event()
    try:
        app = application(settings)
        outbound = Outbound(store, settings, leaving)
        define(app, outbound)
        scheduling.define_scheduling(app, store)
        define_queue(app, store, settings.clinic_timezone)
        define_payments(app, store, settings)
        messages = people.Messages(store, settings, leaving)
        define_messages(app, messages)
        engine = Engine.build(store, settings)
        define_bulk(app, Maker(engine))
        hooks = subscriptions.Subscriptions(engine, settings, leaving)
        define_subscriptions(app, hooks)
        heard = {
            CONSUMER: outbound.hear,
            publishing.CONSUMER: scheduling.hear,
            people.CONSUMER: messages.hear,
            subscriptions.CONSUMER: hooks.hear,
            triggers.CONSUMER: triggers.Charging(store, settings.currency).hear,
            settling.CONSUMER: settling.Settling(store).hear,
        }
        relay = Relay(store, heard, lambda name, identity: app.send_task(name, (identity,)))

        @signals.worker_shutting_down.connect(weak=False)
        def leave(**_: Any) -> None:
            leaving.set()

        process.settle()
        relay.start()
        ready(f"{THREADS} threads")
        worker = app.Worker(
            pool="threads", concurrency=THREADS, without_gossip=True, without_mingle=True, without_heartbeat=True, loglevel="WARNING", quiet=True
        )
        worker.start()
        leaving.set()
        relay.stop()
    finally:
        store.close()


def define(app: Celery, outbound: Outbound) -> None:
    """Gives an application its tasks."""

    @app.task(name="hl7v2.deliver", autoretry_for=(Outcome,), **RETRIES)
    def deliver(peer: str) -> None:
        """Sends a peer what waits for it."""
        again = outbound.deliver(peer)
        if again is not None and again < SOON:
            deliver.apply_async((peer,), countdown=again)

    @app.task(name="hl7v2.sweep", autoretry_for=(Outcome,), **RETRIES)
    def sweep() -> None:
        """Asks for deliveries that are due, whoever has forgotten them."""
        for peer in outbound.due():
            deliver.delay(peer)

    @app.task(name="hl7v2.upkeep", autoretry_for=(Outcome,), **RETRIES)
    def upkeep() -> None:
        """Takes out what was delivered long ago."""
        outbound.forget()
