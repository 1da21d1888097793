"""Search parameters that come as resources: what they define, and what is wrong with them. https://hl7.org/fhir/R4/searchparameter.html

A SearchParameter counts while it is active. Its expression may be what those of the specification are: a path with `as`, `ofType()`, `[0]`,
`where(key = 'value')`, `where(resolve() is X)` and `extension('url')`, several of them joined by `|`, or a condition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.fhirpath import FhirPathError, parse
from fhir_server.outcome import Issue
from fhir_server.spec import SearchParam, Spec
from fhir_server.spec.model import Component

from .compartment import OWNED
from .extraction import Extractor
from .registry import Registry

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}")
_FORMS: Final = (
    "it can be neither read as a path nor as a condition: paths may have as, ofType(), [0], where(key = 'value'), where(resolve() is X) and"
    " extension('url')"
)


def definitions(resource: Mapping[str, Any], spec: Spec) -> dict[str, SearchParam]:
    """What a valid SearchParameter defines, by resource type; nothing unless it is active, nor what the specification defines the same way.

    What says that it is derived from the specification's parameter of the same code is that one: implementation guides repeat it to demand it.
    """
    if resource.get("status") != "active" or resource.get("type") == "special" or "expression" not in resource:
        return {}
    components = tuple(Component(part["definition"], part["expression"]) for part in resource.get("component", ()))
    found = {}
    for name in spec.resource_types:
        if any(spec.is_a(name, base) for base in resource["base"]):
            targets = tuple(resource.get("target", ()))
            param = SearchParam(resource["url"], resource["code"], resource["type"], (name,), resource["expression"], targets, components)
            own = spec.search_params(name).get(param.code)
            derived = own is not None and resource.get("derivedFrom") == own.url and own.type == param.type
            if not derived and (own is None or replace(own, base=param.base) != param):
                found[name] = param
    return found


def faults(resource: Mapping[str, Any], registry: Registry) -> list[Issue]:  # noqa: PLR0911 - one for each kind of fault
    """What keeps a valid SearchParameter from being searched by, each fault with its place; nothing for one that is not active.

    Costs about a millisecond per resource type that it is for.
    """
    if resource.get("status") != "active":
        return []
    code, spec = resource["code"], registry.spec
    if resource["type"] == "special":
        return [_fault("type", "Special parameters are code of the server's; they cannot be added", "not-supported")]
    if "expression" not in resource:
        return [_fault("expression", "A parameter that is active needs an expression", "required")]
    if (fault := _syntax(resource["expression"], "expression")) is not None:
        return [fault]
    parts = enumerate(resource.get("component", ()))
    if broken := [fault for n, part in parts if (fault := _syntax(part["expression"], f"component[{n}].expression")) is not None]:
        return broken
    wanted = definitions(resource, spec)
    if not wanted:
        return []
    if not _CODE.fullmatch(code):
        return [_fault("code", f"'{code[:80]}' cannot stand in a search: a code is a letter and up to 63 of A-Z, a-z, 0-9, '-' and '_'", "value")]
    if kept := [name for name in wanted if code in _reserved(registry, name)]:
        text = f"'{code}' of {kept[0]} cannot be defined anew: compartments, and the order of a patient's resources, rest on it"
        return [_fault("code", text, "business-rule")]
    reasons = {name: reason for name, param in wanted.items() if (reason := _reason(name, param, registry)) is not None}
    # Of an abstract base it is enough that one of its types has the element.
    concrete = [name for name in resource["base"] if name in spec.resource_types]
    failed = [name for name in wanted if name in reasons and (name in concrete or len(reasons) == len(wanted))]
    place = "component" if resource["type"] == "composite" else "expression"
    return [_fault(place, f"For {name}: {reasons[name]}", "not-supported") for name in failed[:10]]


def _reserved(registry: Registry, name: str) -> set[str]:
    compartments = registry.spec.compartments.values()
    members = [code for each in (*compartments, OWNED) for code in each.get(name, ())]
    main = (registry.main_date(name), registry.main_code(name))
    return {code for code in (*members, *main) if code is not None}


def _syntax(expression: str, place: str) -> Issue | None:
    try:
        parse(expression)
    except FhirPathError as error:
        return _fault(place, str(error), "invalid")
    return None


def _reason(name: str, param: SearchParam, registry: Registry) -> str | None:
    try:
        return Extractor(name, [(1, param)], registry.context).failures.get(param.code)
    except FhirPathError as error:
        return str(error)
    except (ValueError, KeyError) as error:
        return str(error) if "places" in str(error) else _FORMS


def _fault(place: str, text: str, code: str) -> Issue:
    return Issue("error", code, text, (f"SearchParameter.{place}",))
