"""$confirm, $decline, $cancel, $reschedule and $no-show. https://hl7.org/fhir/R4/appointment.html#status"""

from __future__ import annotations

from typing import Any

from fhir_server.clinic.scheduling import moves
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.operations.acts import first_written, once
from fhir_server.operations.parameters import Inputs
from fhir_server.outcome import Outcome

from .booking import override

_MOST_TEXT = 1_000


def confirm(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Appointment, booked."""
    why = override(Inputs(engine, exchange, ("override", "reason")))
    return once(engine, exchange, "confirm", lambda act: moves.confirm(engine.store, act, str(exchange.id), why), first_written(200))


def decline(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Appointment, cancelled."""
    reason = _needed(Inputs(engine, exchange, ("reason",)))
    return once(engine, exchange, "decline", lambda act: moves.decline(engine.store, act, str(exchange.id), reason), first_written(200))


def cancel(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Appointment, cancelled."""
    reason = _needed(Inputs(engine, exchange, ("reason",)))
    return once(engine, exchange, "cancel", lambda act: moves.cancel(engine.store, act, str(exchange.id), reason), first_written(200))


def no_show(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Appointment, a no-show."""
    reason = _reason(Inputs(engine, exchange, ("reason",)))
    return once(engine, exchange, "no-show", lambda act: moves.no_show(engine.store, act, str(exchange.id), reason), first_written(200))


def reschedule(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Appointment at its new time."""
    given = Inputs(engine, exchange, ("start", "slot", "override", "reason"))
    start, slot = given.moment("start"), given.reference("slot", "Slot")
    if start is None and slot is None:
        raise Outcome("parameter", "One of the parameters 'start' and 'slot' is needed", code="required")
    identity, named, why = str(exchange.id), slot.partition("/")[2] if slot else None, override(given)
    return once(engine, exchange, "reschedule", lambda act: moves.reschedule(engine.store, act, identity, start, named, why), first_written(200))


def _needed(given: Inputs) -> dict[str, Any]:
    return given.needed("reason", _reason(given))


def _reason(given: Inputs) -> dict[str, Any] | None:
    """A CodeableConcept, a Coding, or a text."""
    value = given.value("reason")
    if value is None:
        return None
    if isinstance(value, dict):
        found = value if "coding" in value or "text" in value else {"coding": [value]} if "code" in value else None
        if found is None:
            raise Outcome("parameter", "The parameter 'reason' is a text or a CodeableConcept", code="value")
        return found
    text = (given.text("reason") or "").strip()
    if not text or len(text) > _MOST_TEXT:
        raise Outcome("parameter", f"The parameter 'reason' is a text of up to {_MOST_TEXT:,} characters", code="value")
    return {"text": text}
