"""`/billing/templates/preview`: what a bill template comes to, before anybody is charged by it."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any, Final

from flask import Response, g

from fhir_server import fhirjson
from fhir_server.clinic.billing.applicability import Applicability
from fhir_server.clinic.billing.pricing import Line
from fhir_server.clinic.billing.templates import priced
from fhir_server.outcome import Outcome
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .exchange import answered
from .office import office
from .routes import Routes
from .schemas import billing as schemas

MAX_BODY: Final = 1024 * 1024
"""Bytes of a body: twenty cases with their resources."""

routes: Final = Routes("billing", "Bill templates: what they come to, before anybody is charged by them.", max_body=MAX_BODY)

Json = dict[str, Any]


@routes.route("/billing/templates/preview", methods=["POST"])
@routes.arguments(schemas.BillPreview)
@routes.response(200, schemas.BillPreviewed)
def preview(given: dict[str, Any]) -> Response:
    """Try a bill template out

    Prices a ChargeItemDefinition for made-up cases, and says whether each comes to what is expected. Nothing is stored.
    """
    # Numbers as they were written: of what the schema has read, those with a fraction are no longer exact.
    body = fhirjson.loads(g.fhir_server_body)
    template = _valid(body["template"], "ChargeItemDefinition", "template")
    results = [_result(template, case, exact) for case, exact in zip(given["cases"], body["cases"], strict=True)]
    return answered({"items": results, "passed": all(each["passed"] is not False for each in results)})


def _result(template: Json, case: Json, exact: Json) -> Json:
    here = office()
    now = case.get("now", here.now()).astimezone(here.settings.clinic_timezone)
    variables: Json = {"daysSincePaidVisit": case.get("days_since_paid_visit")}
    for name, kind in (("patient", "Patient"), ("encounter", "Encounter")):
        if name in exact:
            variables[name] = _valid(exact[name], kind, f"cases.{name}")
    variables["coverage"] = [_valid(each, "Coverage", "cases.coverage") for each in exact.get("coverage", ())]
    charge = {"resourceType": "ChargeItem", "status": "billable", "quantity": {"value": Decimal(case["quantity"])}}
    found, fault = None, None
    try:
        found = priced(template, Decimal(case["quantity"]), here.settings.currency, Applicability(charge, variables, now, cached=False))
    except Outcome as outcome:
        issue = outcome.issues[0]
        fault = f"{issue.diagnostics} ({', '.join(issue.expression)})" if issue.expression else issue.diagnostics
    totals = {"net": found.net, "tax": found.tax, "gross": found.gross} if found is not None else {}
    expected = case.get("expected")
    passed = None if expected is None else fault is None and all(totals.get(name) == Decimal(value) for name, value in expected.items())
    return {
        "name": case["name"],
        "applies": found is not None,
        "currency": found.currency if found is not None else None,
        **{name: str(totals[name]) if name in totals else None for name in ("net", "tax", "gross")},
        "lines": [_line(line) for line in found.lines] if found is not None else [],
        "fault": fault,
        "passed": passed,
    }


def _line(line: Line) -> Json:
    return {"type": line.kind, "amount": str(line.amount), "factor": None if line.factor is None else str(line.factor)}


def _valid(resource: Json, kind: str, place: str) -> Json:
    """The resource, known to be one of a kind. Raises Outcome `invalid` with its faults."""
    if resource.get("resourceType") != kind:
        raise Outcome("invalid", f"'{place}' is a {kind}", expression=place)
    _validator().require(resource)
    return resource


@cache
def _validator() -> Validator:
    return Validator(r4())
