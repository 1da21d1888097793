"""What the commands and the HTTP application are given: an intake for a store, and the listener as a whole process."""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.settings import Settings
from fhir_server.store import Store

from .intake import Intake
from .mllp import Limits, Listener, run
from .peers import Peers, tls_context
from .people import process


def open_intake(store: Store) -> Intake:
    """The intake of a store."""
    return Intake(store, process(store))


def serve(settings: Settings, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Listens for MLLP until SIGTERM or SIGINT, over a migrated database that the settings name; `ready` is given the port.

    Raises SetupError for settings that cannot be used, OSError where it cannot listen there, Outcome `unavailable` when the database is away, not
    migrated, or has index rows made under other settings.
    """
    peers, tls = Peers.of(settings), tls_context(settings)
    store = Store.of(settings, connections=2 * Limits().workers)
    store.check_fit()
    store.seal_in_background()
    if run(Listener(open_intake(store), peers, tls), host, port, ready):
        store.close()
