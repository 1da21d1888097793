"""Search parameters as resources: refused while they cannot be searched by, and how far the making of their index rows is.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.definitions import faults
from fhir_server.store import Store

from .exchange import Exchange, Reply


def require(resource: Mapping[str, Any], registry: Registry) -> None:
    """Raises Outcome `invalid` with every fault of an active SearchParameter that is valid otherwise, each with its place."""
    if found := faults(resource, registry):
        raise Outcome("invalid", issues=found)


def status(store: Store, exchange: Exchange) -> Reply:
    """200 and Parameters: one `parameter` for each search parameter whose index rows are being made, of one SearchParameter or of all.

    Each has `type`, `code`, `source` (the SearchParameter) and `percent`. None are left when all can be searched by, which `ready` says.
    Raises Outcome `forbidden` for who may not read SearchParameters.
    """
    if not (exchange.grant.allows("SearchParameter", "r") or exchange.grant.allows("SearchParameter", "s")):
        raise Outcome("forbidden", "The token does not allow to read SearchParameter")
    coming = [each for each in store.indexing() if exchange.id is None or each.source == exchange.id]
    parts: list[dict[str, Any]] = [{"name": "ready", "valueBoolean": not coming}]
    for each in coming:
        if ":" in each.code:
            continue
        facts: list[dict[str, Any]] = [
            {"name": "type", "valueCode": each.type},
            {"name": "code", "valueCode": each.code},
            {"name": "percent", "valueInteger": each.percent},
        ]
        if each.source is not None:
            facts.append({"name": "source", "valueReference": {"reference": f"SearchParameter/{each.source}"}})
        parts.append({"name": "parameter", "part": facts})
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))
