"""The tasks of Subscriptions."""

from __future__ import annotations

from typing import Final

from celery import Celery

from fhir_server.clinic.subscriptions import Subscriptions
from fhir_server.outcome import Outcome

from .application import RETRIES

_SOON: Final = 10.0  # Seconds. What is due later is found by the sweep.


def define_subscriptions(app: Celery, subscriptions: Subscriptions) -> None:
    """Gives an application the tasks of Subscriptions."""

    @app.task(name="subscriptions.check", autoretry_for=(Outcome,), **RETRIES)
    def check(identity: str) -> None:
        """Makes a Subscription active, or says what is wrong with it."""
        subscriptions.check(identity)

    @app.task(name="subscriptions.deliver", autoretry_for=(Outcome,), **RETRIES)
    def deliver(identity: str) -> None:
        """Posts to a subscriber what waits for it."""
        again = subscriptions.deliver(identity)
        if again is not None and again < _SOON:
            deliver.apply_async((identity,), countdown=again)

    @app.task(name="subscriptions.sweep", autoretry_for=(Outcome,), **RETRIES)
    def sweep() -> None:
        """Asks for what is due, whoever has forgotten it."""
        for name, identity in subscriptions.due():
            app.send_task(name, (identity,))

    @app.task(name="subscriptions.upkeep", autoretry_for=(Outcome,), **RETRIES)
    def upkeep() -> None:
        """Takes out what was delivered long ago."""
        subscriptions.forget()
