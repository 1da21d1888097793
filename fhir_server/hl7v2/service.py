"""What the commands and the HTTP application are given: an intake over the engine, and the listener as a whole process."""

from __future__ import annotations

import os
from collections.abc import Callable

from fhir_server import operations
from fhir_server.interactions import Engine
from fhir_server.settings import Settings
from fhir_server.store import Store

from .intake import Intake
from .landing import landing
from .mapping import Converter
from .mllp import Limits, Listener, run
from .peers import Peers, tls_context


def open_intake(engine: Engine) -> Intake:
    """The intake for the store of an engine. Takes about 0.1 s; raises MappingFault for maps that cannot be used."""
    return Intake(engine.store, landing(engine, Converter(engine.spec)))


def serve(settings: Settings, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Listens for MLLP until SIGTERM or SIGINT, over a migrated database that the settings name; `ready` is given the port.

    Raises SetupError for settings that cannot be used, OSError where it cannot listen there, Outcome `unavailable` when the database is away, not
    migrated, or has index rows made under other settings.
    """
    peers, tls, limits = Peers.of(settings), tls_context(settings), Limits()
    store = Store.of(settings, connections=2 * limits.workers)
    try:
        store.check_fit()
        intake = open_intake(Engine.build(store, settings, operations.names()))
        in_time = run(Listener(intake, peers, tls, limits), host, port, ready)
    except BaseException:
        store.close()
        raise
    if not in_time:
        # A thread that hangs in the database would hold the process up, and what it does is committed or not either way.
        os._exit(0)
    store.close()
