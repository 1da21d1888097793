"""Which operations there are, and at which level each may be called."""

from __future__ import annotations

from typing import Final

from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.observed import observed
from fhir_server.interactions.search_parameters import status
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON

from . import billing, code_system, concept_map, document, insurance, meta, payments, queue, shifts, value_set, visit
from .access_report import access_report
from .bulk import export, export_file, export_status
from .everything import everything
from .graphql import graphql
from .lastn import lastn
from .operation import Level, reading
from .scheduling import OPERATIONS as SCHEDULING
from .stats import stats
from .validate import validate
from .why_denied import why_denied

_R4: Final = "http://hl7.org/fhir"
_BULK: Final = "http://hl7.org/fhir/uv/bulkdata"
_OPERATIONS: Final = {
    ("", "why-denied"): reading(CANON, "why-denied", why_denied, frozenset({"system"})),
    ("", "export"): reading(_BULK, "export", export, frozenset({"system"})),
    ("Patient", "export"): reading(_BULK, "patient-export", export, frozenset({"type"})),
    ("Group", "export"): reading(_BULK, "group-export", export, frozenset({"instance"})),
    ("", "graphql"): reading(_R4, "Resource-graphql", graphql, frozenset({"system"})),
    ("Resource", "graphql"): reading(_R4, "Resource-graphql", graphql, frozenset({"instance"})),
    ("Resource", "validate"): reading(_R4, "Resource-validate", validate),
    ("SearchParameter", "status"): reading(CANON, "SearchParameter-status", lambda engine, exchange: status(engine.store, exchange)),
    ("ValueSet", "expand"): reading(_R4, "ValueSet-expand", value_set.expand),
    ("ValueSet", "validate-code"): reading(_R4, "ValueSet-validate-code", value_set.validate_code),
    ("CodeSystem", "lookup"): reading(_R4, "CodeSystem-lookup", code_system.lookup, frozenset({"type"})),
    ("CodeSystem", "validate-code"): reading(_R4, "CodeSystem-validate-code", code_system.validate_code),
    ("ConceptMap", "translate"): reading(_R4, "ConceptMap-translate", concept_map.translate),
    ("Patient", "access-report"): reading(CANON, "Patient-access-report", access_report, frozenset({"instance"})),
    ("Patient", "everything"): reading(_R4, "Patient-everything", everything),
    ("Encounter", "everything"): reading(_R4, "Encounter-everything", everything, frozenset({"instance"})),
    ("Observation", "lastn"): reading(_R4, "Observation-lastn", lastn, frozenset({"type"})),
    ("Observation", "stats"): reading(_R4, "Observation-stats", stats, frozenset({"type"})),
    ("CodeSystem", "subsumes"): reading(_R4, "CodeSystem-subsumes", code_system.subsumes),
    **meta.OPERATIONS,
    **document.OPERATIONS,
    **visit.OPERATIONS,
    **SCHEDULING,
    **queue.OPERATIONS,
    **billing.OPERATIONS,
    **payments.OPERATIONS,
    **shifts.OPERATIONS,
    **insurance.OPERATIONS,
}
"""By resource type, `Resource` for all, empty for the whole system, and name."""
_FOLLOWING: Final = {
    "export-status": reading(_BULK, "export", export_status, frozenset({"system"})),
    "export-file": reading(_BULK, "export", export_file, frozenset({"system"})),
}
"""What callers are led to by links alone, by name."""


def names() -> dict[str, dict[str, str]]:
    """The URLs of operations' definitions by resource type and name; those on every type are under `Resource`, those on none under an empty name."""
    table: dict[str, dict[str, str]] = {}
    for (resource_type, name), operation in _OPERATIONS.items():
        table.setdefault(resource_type, {})[name] = operation.definition
    return table


def dispatch_operation(engine: Engine, exchange: Exchange) -> Reply:
    """Runs an operation, of which the audit trail has an event then; `exchange.body` is its Parameters, or the resource itself.

    Raises Outcome `not-found` for one that is not here, `method` where one that changes something is not posted.
    """
    name = str(exchange.operation)
    level: Level = "system" if exchange.type is None else "type" if exchange.id is None else "instance"
    operation = _OPERATIONS.get((exchange.type or "", name)) or _OPERATIONS.get(("Resource", name)) or _FOLLOWING.get(name)
    if operation is None or level not in operation.levels:
        raise Outcome("not-found", f"There is no operation ${name} on this {level}", code="not-supported")
    if exchange.type is not None:
        engine.known_type(exchange.type)
    if operation.affects_state and exchange.method != "POST":
        raise Outcome("method", f"${name} changes something: send it by POST", headers={"Allow": "POST"})
    return observed(engine, exchange, lambda: operation.run(engine, exchange), name)
