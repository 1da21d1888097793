"""Bill templates as resources: one in force cannot be mended, so its conditions are read before it is.

https://hl7.org/fhir/R4/chargeitemdefinition.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.fhirpath import FhirPathError
from fhir_server.fhirpath import compile as compiled
from fhir_server.outcome import Issue, Outcome
from fhir_server.spec import Spec

_FHIRPATH: Final = "text/fhirpath"


def require(resource: Mapping[str, Any], spec: Spec) -> None:
    """Raises Outcome `invalid`, with every fault and its place, for an active ChargeItemDefinition whose conditions in FHIRPath cannot be read."""
    if resource.get("status") == "active" and (found := list(_faults(resource, spec))):
        raise Outcome("invalid", issues=found)


def _faults(resource: Mapping[str, Any], spec: Spec) -> Iterator[Issue]:
    groups = [(group, f"ChargeItemDefinition.propertyGroup[{n}]") for n, group in enumerate(resource.get("propertyGroup", ()))]
    for holder, place in ((resource, "ChargeItemDefinition"), *groups):
        for n, condition in enumerate(holder.get("applicability", ())):
            if "expression" not in condition or condition.get("language", _FHIRPATH) != _FHIRPATH:
                continue
            try:
                compiled(condition["expression"], spec, "ChargeItem", cached=False)
            except FhirPathError as error:
                yield Issue("error", "invalid", str(error), (f"{place}.applicability[{n}].expression",))
