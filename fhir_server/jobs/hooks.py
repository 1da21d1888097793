"""The tasks of Subscriptions."""

from __future__ import annotations

from celery import Celery

from fhir_server.clinic.subscriptions import Subscriptions

from .application import OPTIONS, SOON


def define_subscriptions(app: Celery, subscriptions: Subscriptions) -> None:
    """Gives an application the tasks of Subscriptions."""

    @app.task(name="subscriptions.check", **OPTIONS)
    def check(identity: str) -> None:
        """Makes a Subscription active, or says what is wrong with it."""
        subscriptions.check(identity)

    @app.task(name="subscriptions.deliver", **OPTIONS)
    def deliver(identity: str) -> None:
        """Posts to a subscriber what waits for it."""
        again = subscriptions.deliver(identity)
        if again is not None and again < SOON:
            deliver.apply_async((identity,), countdown=again)

    @app.task(name="subscriptions.sweep", **OPTIONS)
    def sweep() -> None:
        """Asks for what is due, whoever has forgotten it."""
        for name, identity in subscriptions.due():
            app.send_task(name, (identity,))

    @app.task(name="subscriptions.upkeep", **OPTIONS)
    def upkeep() -> None:
        """Takes out what was delivered long ago."""
        subscriptions.forget()
