"""What the commands and the HTTP application are given: an intake over the engine, and the listener as a whole process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from fhir_server import operations
from fhir_server.interactions import Engine
from fhir_server.settings import Settings, SetupError
from fhir_server.spec import r4
from fhir_server.store import Store

from .intake.inbox import Inbox
from .intake.intake import Intake
from .landing.landing import landing
from .landing.rehearsal import rehearse
from .listener.mllp import Limits, Listener, run
from .listener.peers import Encryption, Peers
from .mapping import Converter, MappingFault


def open_converter(settings: Settings) -> Converter:
    """The maps that the settings name. Takes about 0.1 s; raises SetupError with the file and line of a fault in them."""
    try:
        return Converter(r4(), settings.hl7v2_mappings)
    except MappingFault as fault:
        raise SetupError(f"the maps of HL7 v2 cannot be used: {fault}") from None


def open_inbox(engine: Engine, settings: Settings) -> tuple[Intake, Inbox]:
    """The intake for the store of an engine, and the inbox of what it has stored. Raises SetupError as `open_converter`."""
    converter = open_converter(settings)
    intake = Intake(engine.store, landing(engine, converter))
    return intake, Inbox(engine, converter, intake)


def serve(settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Takes messages by MLLP until SIGTERM or SIGINT, into a migrated database that the settings name; `ready` is called once it does.

    Raises SetupError for settings that cannot be used, Outcome `unavailable` when the database is away, not migrated, or has index rows made under
    other settings.
    """
    peers, tls, limits = Peers.of(settings), Encryption(settings), Limits()
    store = Store.of(settings, connections=2 * limits.workers)
    try:
        store.check_fit()
        engine, converter = Engine.build(store, settings, operations.names()), open_converter(settings)
        intake = Intake(store, landing(engine, converter))
        rehearse(engine, converter)
        in_time = run(Listener(intake, peers, tls, limits), listening, ready)
    except BaseException:
        store.close()
        raise
    if not in_time:
        # A thread that hangs in the database would hold the process up, and what it does is committed or not either way.
        os._exit(0)
    store.close()
