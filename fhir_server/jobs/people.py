"""The tasks of messages to people."""

from __future__ import annotations

from celery import Celery

from fhir_server.clinic.messages import Messages
from fhir_server.outcome import Outcome

from .application import RETRIES


def define_messages(app: Celery, messages: Messages) -> None:
    """Gives an application the tasks of messages."""

    @app.task(name="messages.send", autoretry_for=(Outcome,), **RETRIES)
    def send(_: str) -> None:
        """Sends what is due."""
        messages.send()

    @app.task(name="messages.sweep", autoretry_for=(Outcome,), **RETRIES)
    def sweep() -> None:
        """Asks for sending where something is due, whoever has forgotten it."""
        if messages.is_due():
            send.delay("due")

    @app.task(name="messages.upkeep", autoretry_for=(Outcome,), **RETRIES)
    def upkeep() -> None:
        """Takes out what was over long ago."""
        messages.forget()
