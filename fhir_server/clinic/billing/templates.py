"""Bill templates: what a ChargeItemDefinition makes of a charge, and what it is good for.

https://hl7.org/fhir/R4/chargeitemdefinition.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from fhir_server.outcome import Outcome
from fhir_server.settings import CANON

from .applicability import Applicability
from .money import digits
from .pricing import Component, Price, component, price

INCLUSIVE: Final = f"{CANON}/StructureDefinition/tax-inclusive"
APPLIES_TO: Final = f"{CANON}/StructureDefinition/billing-applies-to"

Json = dict[str, Any]


def canonical(template: Mapping[str, Any]) -> str:
    """The template's URL with its version, as what was made by it refers to it."""
    return f"{template['url']}|{template['version']}" if "version" in template else str(template["url"])


def priced(template: Mapping[str, Any], quantity: Decimal, currency: str, conditions: Applicability) -> Price | None:
    """What a charge comes to by a template, whose components name their currency or have the given one; None where the template does not apply.

    Raises Outcome `invalid`, with the place in the template, for what is wrong with it, and `business-rule` for components of several currencies.
    """
    if not conditions.holds(template.get("applicability", ()), "ChargeItemDefinition.applicability"):
        return None
    found: list[Component] = []
    used = None
    for each, named in _applying(template, conditions):
        if named is not None and used not in (None, named):
            raise Outcome("business-rule", f"The template has amounts in {used} and in {named}", expression=each.place)
        used = named or used
        found.append(each)
    used = used or currency
    digits(used)
    return price(found, quantity, used)


def codes(template: Mapping[str, Any], url: str) -> list[Json]:
    """The codings of all extensions of the template with this URL."""
    concepts = (each.get("valueCodeableConcept", {}) for each in template.get("extension", ()) if each.get("url") == url)
    return [coding for concept in concepts for coding in concept.get("coding", ())]


def _applying(template: Mapping[str, Any], conditions: Applicability) -> Iterator[tuple[Component, str | None]]:
    """The components of the groups that apply, each with its currency where it names one."""
    for g, group in enumerate(template.get("propertyGroup", ())):
        place = f"ChargeItemDefinition.propertyGroup[{g}]"
        if not conditions.holds(group.get("applicability", ()), f"{place}.applicability"):
            continue
        for n, value in enumerate(group.get("priceComponent", ())):
            each, named = component(value, f"{place}.priceComponent[{n}]", None)
            yield replace(each, inclusive=each.kind == "tax" and _is_inclusive(value)), named


def _is_inclusive(value: Mapping[str, Any]) -> bool:
    return any(each.get("url") == INCLUSIVE and each.get("valueBoolean") is True for each in value.get("extension", ()))
