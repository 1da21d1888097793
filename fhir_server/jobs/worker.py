"""The process that does background work: one, with a few threads. https://docs.celeryq.dev/en/stable/userguide/workers.html"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.exceptions import SecurityWarning

from fhir_server import process
from fhir_server.settings import Settings
from fhir_server.store import Store

from .application import application
from .broker import reach
from .relay import Relay
from .tasks import CONSUMERS, define_tasks

THREADS: Final = 8
"""Tasks at the same time, most of which wait for somebody else's answer."""


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
        relay = Relay(store, define_tasks(app, store, settings, leaving), lambda name, identity: app.send_task(name, (identity,)))

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
