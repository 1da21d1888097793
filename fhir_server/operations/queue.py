"""The queue's operations: `$check-in`, `$walk-in`, `$triage`, `$queue-next`, `$queue-event`, `$queue-board`, `$queue-position`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.queue.arriving import check_in, walk_in
from fhir_server.clinic.queue.board import board, place_of
from fhir_server.clinic.queue.moving import EVENTS, call_next, happen, triage
from fhir_server.clinic.queue.order import ZONES
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store.ops import Commit
from fhir_server.store.rules.queueing.following import ZONE

from .acts import Answer, first_written, once
from .operation import Operation, acting, reading
from .parameters import Inputs, answer

_MAX_REASON: Final = 500
_MAX_ROOM: Final = 60


def _check_in(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the Encounter, `arrived`. Raises Outcome as `arriving.check_in`."""
    inputs = Inputs(engine, exchange, ("location",))
    place = _id(inputs.reference("location", "Location"))
    return once(engine, exchange, "check-in", lambda act: check_in(engine.store, act, str(exchange.id), place), _shown(exchange, 201))


def _walk_in(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the Encounter, `arrived`. Raises Outcome as `arriving.walk_in`."""
    inputs = Inputs(engine, exchange, ("patient", "location", "zone", "reason"))
    patient = inputs.needed("patient", _id(inputs.reference("patient", "Patient")))
    place = inputs.needed("location", _id(inputs.reference("location", "Location")))
    zone, reason = _zone(inputs), _text(inputs, "reason", _MAX_REASON)
    return once(engine, exchange, "walk-in", lambda act: walk_in(engine.store, act, patient, place, zone, reason), _shown(exchange, 201))


def _triage(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Encounter, `triaged`. Raises Outcome as `moving.triage`."""
    inputs = Inputs(engine, exchange, ("zone", "reason"))
    zone, reason = inputs.needed("zone", _zone(inputs)), inputs.needed("reason", _text(inputs, "reason", _MAX_REASON))
    return once(engine, exchange, "triage", lambda act: triage(engine.store, act, str(exchange.id), zone, reason), _shown(exchange, 200))


def _next(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Encounter that is called. Raises Outcome as `moving.call_next`."""
    inputs = Inputs(engine, exchange, ("practitioner", "room"))
    practitioner, room = inputs.reference("practitioner", "Practitioner"), _text(inputs, "room", _MAX_ROOM)
    run = partial(call_next, engine.store, location=str(exchange.id), practitioner=practitioner, room=room)
    return once(engine, exchange, "queue-next", run, _shown(exchange, 200))


def _event(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Encounter. Raises Outcome as `moving.happen`, `parameter` for an event that there is not."""
    inputs = Inputs(engine, exchange, ("event", "location", "reason"))
    event = inputs.needed("event", inputs.text("event"))
    if event not in EVENTS and event != "undo":
        raise Outcome("parameter", f"The parameter 'event' is {', '.join(EVENTS)} or undo", code="value")
    place, reason = _id(inputs.reference("location", "Location")), _text(inputs, "reason", _MAX_REASON)

    def run(act: Any) -> Commit:
        return happen(engine.store, act, str(exchange.id), event, place, reason)

    return once(engine, exchange, "queue-event", run, _shown(exchange, 200))


def _board(engine: Engine, exchange: Exchange) -> Reply:
    """200 and a Parameters resource. Raises Outcome as `board.board`."""
    Inputs(engine, exchange, ())
    return Reply(200, board(engine.store, exchange.grant, str(exchange.id)))


def _position(engine: Engine, exchange: Exchange) -> Reply:
    """200 and `position`, `ahead` and `estimate`. Raises Outcome as `board.place_of`."""
    Inputs(engine, exchange, ())
    found = place_of(engine.store, exchange.grant, str(exchange.id))
    return answer(("position", "Integer", found.position), ("ahead", "Integer", found.ahead), ("estimate", "Integer", found.estimate))


def _shown(exchange: Exchange, status: int) -> Answer:
    """Answers with the Encounter, without what is hidden from the caller: notes, from staff."""
    hidden = exchange.grant.hidden_of("Encounter")

    def answer_with(commit: Commit) -> Reply:
        reply = first_written(status)(commit)
        if not hidden or reply.body is None:
            return reply
        resource = fhirjson.loads(reply.body)
        return replace(reply, body=fhirjson.dumps({name: value for name, value in resource.items() if name.removeprefix("_") not in hidden}))

    return answer_with


def _id(reference: str | None) -> str | None:
    return reference.partition("/")[2] if reference is not None else None


def _zone(inputs: Inputs) -> str | None:
    zone = inputs.code("zone", ZONE)
    if zone is not None and zone not in ZONES:
        raise Outcome("parameter", f"The parameter 'zone' is {', '.join(ZONES)}", code="value")
    return zone


def _text(inputs: Inputs, name: str, most: int) -> str | None:
    text = inputs.text(name)
    if text is not None and len(text) > most:
        raise Outcome("parameter", f"The parameter '{name}' has more than {most} characters", code="too-long")
    return text


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Appointment", "check-in"): acting("Appointment-check-in", _check_in, "instance"),
    ("Encounter", "walk-in"): acting("Encounter-walk-in", _walk_in, "type"),
    ("Encounter", "triage"): acting("Encounter-triage", _triage, "instance"),
    ("Location", "queue-next"): acting("Location-queue-next", _next, "instance"),
    ("Encounter", "queue-event"): acting("Encounter-queue-event", _event, "instance"),
    ("Location", "queue-board"): reading(CANON, "Location-queue-board", _board, frozenset({"instance"})),
    ("Encounter", "queue-position"): reading(CANON, "Encounter-queue-position", _position, frozenset({"instance"})),
}
"""By resource type and name, for the registry."""
