"""Vital signs that cannot wait, as data: what of which code, below or from which value on, in which unit.

https://hl7.org/fhir/R4/observation-vitalsigns.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server.ucum.units import canonical

_LOINC: Final = "http://loinc.org"
_UCUM: Final = "http://unitsofmeasure.org"
_UNSETTLED: Final = frozenset({"cancelled", "entered-in-error", "registered"})


class Rule(NamedTuple):
    """Values `below` the one, from the other on (`least`) or `above` a third are a red flag; `unit` is UCUM."""

    name: str
    unit: str
    below: str | None = None
    least: str | None = None
    above: str | None = None


_SATURATION: Final = Rule("Oxygen saturation", "%", below="90")
RULES: Final[Mapping[str, Rule]] = {
    "59408-5": _SATURATION,
    "2708-6": _SATURATION,
    "8480-6": Rule("Systolic blood pressure", "mm[Hg]", below="90", least="180"),
    "8867-4": Rule("Heart rate", "/min", below="40", above="130"),
    "8310-5": Rule("Body temperature", "Cel", least="40"),
    "9279-1": Rule("Respiratory rate", "/min", below="9", above="29"),
    "9269-2": Rule("Glasgow coma score", "{score}", below="14"),
}
"""By LOINC code."""


def flagged(resource: Mapping[str, Any]) -> str | None:
    """What of an Observation is a red flag, for people to read; None for any other resource, or where its unit is not the kind that it should be."""
    if resource.get("resourceType") != "Observation" or resource.get("status") in _UNSETTLED:
        return None
    return next((said for part in _parts(resource) if (said := _said(part)) is not None), None)


def _parts(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield resource
    yield from (each for each in resource.get("component", ()) if isinstance(each, dict))


def _said(part: Mapping[str, Any]) -> str | None:
    codings = part.get("code", {}).get("coding", ())
    rule = next((RULES[each["code"]] for each in codings if each.get("system") == _LOINC and each.get("code") in RULES), None)
    value = _value(part) if rule is not None else None
    if rule is None or value is None:
        return None
    amount, unit = value
    limits = {name: canonical(Decimal(text), rule.unit) for name in ("below", "least", "above") if (text := getattr(rule, name)) is not None}
    found = canonical(amount, unit)
    for name, limit in limits.items():
        if found is None or limit is None or found[0] != limit[0]:
            continue
        if (name == "below" and found[1] < limit[1]) or (name == "least" and found[1] >= limit[1]) or (name == "above" and found[1] > limit[1]):
            return f"{rule.name} {amount} {unit if unit != rule.unit else rule.unit}".replace(" {score}", "")
    return None


def _value(part: Mapping[str, Any]) -> tuple[Decimal, str] | None:
    quantity = part.get("valueQuantity")
    if isinstance(quantity, dict) and "comparator" not in quantity and quantity.get("system", _UCUM) == _UCUM:
        number, unit = quantity.get("value"), quantity.get("code") or "1"
        return (Decimal(str(number)), str(unit)) if number is not None else None
    score = part.get("valueInteger")
    return (Decimal(score), "1") if isinstance(score, int) else None
