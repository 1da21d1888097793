"""The tasks of payments online."""

from __future__ import annotations

from celery import Celery

from fhir_server.clinic.billing.gateway import Online, comparing, events, gateway_of, refunds
from fhir_server.settings import Settings
from fhir_server.store import Store

from .application import OPTIONS


def define_payments(app: Celery, store: Store, settings: Settings) -> None:
    """Gives an application the tasks, which do nothing where no gateway is set up."""
    gateway, online = gateway_of(settings), Online(store, settings)

    @app.task(name="payments.settle", **OPTIONS)
    def settle() -> None:
        """Asks the gateway for what is not known, and sends it what was not sent."""
        if gateway is not None:
            online.settle()
            refunds.settle(store, gateway)
            events.retry(store, gateway)

    @app.task(name="payments.compare", **OPTIONS)
    def compare() -> None:
        """Compares the days that are over with the gateway's list, and takes out what was settled long ago."""
        if gateway is not None:
            comparing.compare_due(store, gateway)
            events.forget(store)
