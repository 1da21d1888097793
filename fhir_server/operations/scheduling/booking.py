"""$hold and $book. https://hl7.org/fhir/R4/appointment.html"""

from __future__ import annotations

from datetime import UTC, timedelta
from email.utils import format_datetime

from fhir_server import fhirjson
from fhir_server.clinic.scheduling import booking, series, waiting
from fhir_server.clinic.scheduling.booking import Asked
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.operations.acts import Answer, first_written, once
from fhir_server.operations.parameters import Inputs
from fhir_server.outcome import Outcome
from fhir_server.store.ops import Commit

_NAMES = ("appointment", "patient", "override", "reason")


def hold(engine: Engine, exchange: Exchange) -> Reply:
    """201 and an Appointment that is pending until its `hold-expires`, as the header Expires has it, too."""
    asked = _asked(Inputs(engine, exchange, _NAMES, resource="appointment"))
    until = engine.store.clock() + timedelta(seconds=engine.hold_seconds)
    # HTTP knows no fractions of a second.
    expires = ("Expires", format_datetime(until.astimezone(UTC).replace(microsecond=0), usegmt=True))
    return once(engine, exchange, "hold", lambda act: booking.hold(engine.store, act, asked, until), first_written(201, expires))


def book(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the Appointment: booked, or pending where a patient has booked, or on the waiting list; with `repeat`, a Bundle of all of them."""
    given = Inputs(engine, exchange, (*_NAMES, "hold", "repeat", "interval", "waitlist"), resource="appointment")
    asked, repeat, days = _asked(given), given.number("repeat"), given.number("interval")
    if (asked.appointment is None) == (asked.hold is None):
        raise Outcome("parameter", "One of the parameters 'appointment' and 'hold' is needed", code="required")
    if given.flag("waitlist"):
        return once(engine, exchange, "book", lambda act: waiting.join(engine.store, act, asked), first_written(201))
    if repeat is None:
        return once(engine, exchange, "book", lambda act: booking.book(engine.store, act, asked), first_written(201))
    every = 7 if days is None else days
    if not 1 < repeat <= series.MOST_REPEATS or not 0 < every <= series.MOST_DAYS:
        said = f"A series has 2 to {series.MOST_REPEATS} visits ('repeat'), 1 to {series.MOST_DAYS} days apart ('interval')"
        raise Outcome("parameter", said, code="value")
    return once(engine, exchange, "book", lambda act: series.book_series(engine.store, act, asked, repeat, every), _all_written(exchange))


def _all_written(exchange: Exchange) -> Answer:
    def answer(commit: Commit) -> Reply:
        bodies = [(each.version.id, each.version.body) for each in commit.written if each.version is not None and each.version.body is not None]
        listed = [{"fullUrl": f"{exchange.base}/Appointment/{identity}", "resource": fhirjson.loads(body)} for identity, body in bodies]
        return Reply(201, fhirjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": listed}))

    return answer


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
