"""The tasks of messages to other systems by HL7 v2."""

from __future__ import annotations

from celery import Celery

from fhir_server.hl7v2.outbound import Outbound

from .application import OPTIONS, SOON


def define_outbound(app: Celery, outbound: Outbound) -> None:
    """Gives an application the tasks."""

    @app.task(name="hl7v2.deliver", **OPTIONS)
    def deliver(peer: str) -> None:
        """Sends a peer what waits for it."""
        again = outbound.deliver(peer)
        if again is not None and again < SOON:
            deliver.apply_async((peer,), countdown=again)

    @app.task(name="hl7v2.sweep", **OPTIONS)
    def sweep() -> None:
        """Asks for deliveries that are due, whoever has forgotten them."""
        for peer in outbound.due():
            deliver.delay(peer)

    @app.task(name="hl7v2.upkeep", **OPTIONS)
    def upkeep() -> None:
        """Takes out what was delivered long ago."""
        outbound.forget()
