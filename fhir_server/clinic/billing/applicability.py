"""Whether a part of a template applies: conditions in FHIRPath about the charge, whose it is, and when.

https://hl7.org/fhir/R4/chargeitemdefinition-definitions.html#ChargeItemDefinition.applicability
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from fhir_server.fhirpath import Budget, FhirPathError, Node, Temporal
from fhir_server.fhirpath import compile as compiled
from fhir_server.outcome import Category, Outcome
from fhir_server.spec import r4

VARIABLES: Final = ("patient", "encounter", "coverage", "now", "daysSincePaidVisit")
"""What conditions may ask for besides `%context`, the ChargeItem. See `Applicability`."""
_LANGUAGE: Final = "text/fhirpath"


class Applicability:
    """The conditions of one charge, which share a budget.

    `%context` is the ChargeItem; `%patient`, `%encounter` and `%coverage` are resources, of coverages all that are active; `%now` is the moment;
    `%daysSincePaidVisit` is the number of days since the patient's last visit to the same practitioner that was paid. What is not there is empty, and
    a condition that comes to nothing does not hold.
    """

    def __init__(self, charge: Mapping[str, Any], variables: Mapping[str, Any], now: datetime, *, cached: bool = True) -> None:
        """`now` has the zone of the clinic. Without `cached` the expressions are a caller's, who may vary them without end."""
        self._charge = dict(charge)
        moment = Temporal.read("DateTime", now.isoformat(timespec="milliseconds"))
        self._variables = {name: variables.get(name) for name in VARIABLES} | {"now": moment}
        self._now = now
        self._budget = Budget()
        self._cached = cached

    def holds(self, conditions: Iterable[Mapping[str, Any]], place: str) -> bool:
        """Whether all conditions hold that stand at a place; one without an expression is for people, and does.

        Raises Outcome `invalid` or `too-costly`, with the place, for an expression that has a fault, or is no condition.
        """
        return all(self._holds(condition, f"{place}[{n}]") for n, condition in enumerate(conditions))

    def _holds(self, condition: Mapping[str, Any], place: str) -> bool:
        text = condition.get("expression")
        if text is None:
            return True
        if condition.get("language", _LANGUAGE) != _LANGUAGE:
            raise Outcome("invalid", f"Conditions are in {_LANGUAGE}", expression=f"{place}.language", code="not-supported")
        try:
            run = compiled(text, r4(), "ChargeItem", cached=self._cached)
            found = run.nodes(self._charge, variables=self._variables, now=self._now, budget=self._budget)
        except FhirPathError as error:
            category: Category = "too-costly" if error.category == "too-costly" else "invalid"
            raise Outcome(category, str(error), expression=f"{place}.expression") from None
        values = [item.value if isinstance(item, Node) else item for item in found]
        if not values:
            return False
        if len(values) > 1 or not isinstance(values[0], bool):
            raise Outcome("invalid", "The expression is no condition: it does not come to true or false", expression=f"{place}.expression")
        return bool(values[0])
