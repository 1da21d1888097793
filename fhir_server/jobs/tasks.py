"""All that workers do: the tasks, and who hears of which changes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from celery import Celery

from fhir_server.clinic import messages, subscriptions
from fhir_server.clinic.billing import triggers
from fhir_server.clinic.insurance import settling
from fhir_server.clinic.scheduling import publishing
from fhir_server.hl7v2 import outbound
from fhir_server.interactions import Engine
from fhir_server.operations.bulk import Maker
from fhir_server.settings import Settings
from fhir_server.store import Store

from . import scheduling
from .bulk import define_bulk
from .hooks import define_subscriptions
from .outbound import define_outbound
from .paying import define_payments
from .people import define_messages
from .queue import define_queue
from .relay import Consumer

CONSUMERS: Final = 6
"""How many hear of changes."""


def define_tasks(app: Celery, store: Store, settings: Settings, leaving: threading.Event) -> Mapping[str, Consumer]:
    """Gives an application every task; the consumers by the names under which they listen, for a Relay.

    What waits for somebody else's answer stops waiting once `leaving` is set.
    """
    engine = Engine.build(store, settings)
    peers = outbound.Outbound(store, settings, leaving)
    people = messages.Messages(store, settings, leaving)
    hooks = subscriptions.Subscriptions(engine, settings, leaving)
    define_outbound(app, peers)
    scheduling.define_scheduling(app, store)
    define_queue(app, store, settings.clinic_timezone)
    define_payments(app, store, settings)
    define_messages(app, people)
    define_bulk(app, Maker(engine))
    define_subscriptions(app, hooks)
    return {
        outbound.CONSUMER: peers.hear,
        publishing.CONSUMER: scheduling.hear,
        messages.CONSUMER: people.hear,
        subscriptions.CONSUMER: hooks.hear,
        triggers.CONSUMER: triggers.Charging(store, settings.currency).hear,
        settling.CONSUMER: settling.Settling(store).hear,
    }
