"""`$hold-release`, `$follow-up` and `$cautions`: what a doctor decides, and has to know, at a visit."""

from __future__ import annotations

from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic import visit
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.settings import CANON

from .acts import first_written, once
from .operation import Operation, acting, reading
from .parameters import Inputs


def hold_release(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the DiagnosticReport: held back from its patient with its results, or with `hold` = false let go again. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("hold", "reason"))
    held = inputs.flag("hold") if inputs.has("hold") else True
    reason = inputs.text("reason") or ""
    identity = inputs.needed("id", exchange.id)
    return once(
        engine, exchange, "hold-release", lambda act: visit.hold_release(engine.store, act, identity, held=held, reason=reason), first_written(200)
    )


def follow_up(engine: Engine, exchange: Exchange) -> Reply:
    """201 and a proposed Appointment of type FOLLOWUP, `days` after today. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("days", "reason"))
    days = inputs.needed("days", inputs.number("days"))
    reason = inputs.text("reason") or ""
    identity = inputs.needed("id", exchange.id)
    return once(
        engine,
        exchange,
        "follow-up",
        lambda act: visit.propose_follow_up(engine.store, act, identity, after_days=days, reason=reason),
        first_written(201),
    )


def cautions(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: a `caution` for each thing that speaks against the MedicationRequest in the body, with kind, severity, text, reference."""
    inputs = Inputs(engine, exchange, ("prescription",), resource="prescription")
    prescription = inputs.needed("prescription", inputs.resource("prescription", "MedicationRequest"))
    parts = [
        {
            "name": "caution",
            "part": [
                {"name": "kind", "valueCode": caution.kind},
                {"name": "severity", "valueCode": caution.severity},
                {"name": "text", "valueString": caution.text},
                {"name": "reference", "valueReference": {"reference": caution.reference}},
            ],
        }
        for caution in visit.cautions_of(engine.store, exchange.grant, prescription)
    ]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters"} | ({"parameter": parts} if parts else {})))


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("MedicationRequest", "cautions"): reading(CANON, "MedicationRequest-cautions", cautions, frozenset({"type"})),
    ("DiagnosticReport", "hold-release"): acting("DiagnosticReport-hold-release", hold_release, "instance"),
    ("Encounter", "follow-up"): acting("Encounter-follow-up", follow_up, "instance"),
}
