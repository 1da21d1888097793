"""The tasks of messages to people."""

from __future__ import annotations

from celery import Celery

from fhir_server.clinic.messages import Messages

from .application import OPTIONS


def define_messages(app: Celery, messages: Messages) -> None:
    """Gives an application the tasks of messages."""

    @app.task(name="messages.send", **OPTIONS)
    def send(_: str) -> None:
        """Sends what is due."""
        messages.send()

    @app.task(name="messages.sweep", **OPTIONS)
    def sweep() -> None:
        """Asks for sending where something is due, whoever has forgotten it."""
        if messages.is_due():
            send.delay("due")

    @app.task(name="messages.upkeep", **OPTIONS)
    def upkeep() -> None:
        """Takes out what was over long ago."""
        messages.forget()
