"""$hold and $book. https://hl7.org/fhir/R4/appointment.html"""

from __future__ import annotations

from datetime import UTC, timedelta
from email.utils import format_datetime

from fhir_server.clinic.scheduling import booking
from fhir_server.clinic.scheduling.booking import Asked
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.operations.acts import first_written, once
from fhir_server.operations.parameters import Inputs
from fhir_server.outcome import Outcome

_NAMES = ("appointment", "patient", "override", "reason")


def hold(engine: Engine, exchange: Exchange) -> Reply:
    """201 and an Appointment that is pending until its `hold-expires`, as the header Expires has it, too."""
    asked = _asked(Inputs(engine, exchange, _NAMES, resource="appointment"))
    until = engine.store.clock() + timedelta(seconds=engine.hold_seconds)
    # HTTP knows no fractions of a second.
    expires = ("Expires", format_datetime(until.astimezone(UTC).replace(microsecond=0), usegmt=True))
    return once(engine, exchange, "hold", lambda act: booking.hold(engine.store, act, asked, until), first_written(201, expires))


def book(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the Appointment: booked, or pending where a patient has booked."""
    given = Inputs(engine, exchange, (*_NAMES, "hold"), resource="appointment")
    asked = _asked(given)
    if (asked.appointment is None) == (asked.hold is None):
        raise Outcome("parameter", "One of the parameters 'appointment' and 'hold' is needed", code="required")
    return once(engine, exchange, "book", lambda act: booking.book(engine.store, act, asked), first_written(201))


def _asked(given: Inputs) -> Asked:
    held = given.reference("hold", "Appointment")
    patient = given.reference("patient", "Patient")
    return Asked(
        given.resource("appointment", "Appointment"),
        held.partition("/")[2] if held else None,
        patient.partition("/")[2] if patient else None,
        override(given),
    )


def override(given: Inputs) -> str | None:
    """The reason for a time that is not offered, where `override` is true. Raises Outcome `parameter` without one."""
    reason = given.text("reason") if given.flag("override") else None
    if given.flag("override") and not (reason or "").strip():
        raise Outcome("parameter", "`override` needs a `reason`", code="required")
    return reason
