"""What FHIR adds to FHIRPath, and the clock.

https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import Env, Item, Node, TypeInfo
from fhir_server.fhirpath.narrative import is_narrative
from fhir_server.fhirpath.operators import single, type_name
from fhir_server.fhirpath.temporal import Temporal

from .signature import Function, Lambda

_REFERENCE: Final = re.compile(r"(?:https?://.*/|^)([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII)
_DEFINITION: Final = "http://hl7.org/fhir/StructureDefinition/"


def _extension(env: Env, items: list[Item], url: list[Item]) -> list[Item]:
    wanted = single(url, env, "extension()")
    found = env.model.member(items, "extension")
    return [node for node in found if type(node.value) is dict and node.value.get("url") == wanted]


def _has_value(_env: Env, items: list[Item]) -> list[Item]:
    if len(items) != 1:
        return [False]
    item = items[0]
    return [item.__class__ is not Node or (item.value is not None and type(item.value) is not dict)]


def _get_value(env: Env, items: list[Item]) -> list[Item]:
    value = single(items, env, "getValue()")
    return [] if value is None or value.__class__ is Node else [value]


def _resolve(env: Env, items: list[Item]) -> list[Item]:
    env.spend(len(items))
    out: list[Item] = []
    for item in items:
        declared = None
        reference = item.value if item.__class__ is Node else item
        if type(reference) is dict:
            declared = reference.get("type")
            reference = reference.get("reference")
        if type(reference) is str:
            node = _target(env, reference, declared)
            if node is not None:
                out.append(node)
        elif type(declared) is str and env.resolver is None and declared in env.model.spec.types:
            out.append(Node({"resourceType": declared}, declared))
    return out


def _target(env: Env, reference: str, declared: Any) -> Node | None:
    if reference.startswith("#"):
        return _contained(env, reference[1:])
    if env.resolver is not None:
        found = env.resolver(reference)
        return Node(found, env.model.actual("Resource", found)) if type(found) is dict else None
    match = _REFERENCE.fullmatch(reference)
    name = match[1] if match else declared
    if type(name) is not str or name not in env.model.spec.types:
        return None
    return Node({"resourceType": name, **({"id": match[2]} if match else {})}, name)


def _contained(env: Env, name: str) -> Node | None:
    top = env.root or env.resource or env.context.top()
    if not name:
        return top
    for node in env.model.member([top], "contained"):
        if type(node.value) is dict and node.value.get("id") == name:
            return node if isinstance(node, Node) else None
    return None


def _member_of(env: Env, items: list[Item], value_set: list[Item]) -> list[Item]:
    url = single(value_set, env, "memberOf()")
    if not items or not isinstance(url, str) or env.member_of is None:
        return []
    found = env.member_of(items[0].value if items[0].__class__ is Node else items[0], url)
    return [] if found is None else [found]


def _conforms_to(env: Env, items: list[Item], profile: list[Item]) -> list[Item]:
    url = single(profile, env, "conformsTo()")
    name = url.removeprefix(_DEFINITION) if isinstance(url, str) else ""
    if name not in env.model.spec.types:
        raise FhirPathError(f"conformsTo() does not know the profile {url}")
    return [env.model.is_a(item.type, name) for item in items if item.__class__ is Node]


def _html_checks(env: Env, items: list[Item]) -> list[Item]:
    values = [item.value if item.__class__ is Node else item for item in items]
    env.spend(sum(len(value) >> 2 for value in values if type(value) is str))
    return [all(type(value) is str and is_narrative(value) for value in values)] if values else []


def _type(_env: Env, items: list[Item]) -> list[Item]:
    return [TypeInfo("FHIR" if item.__class__ is Node else "System", type_name(item)) for item in items]


def _now(env: Env) -> datetime:
    if env.now is None:
        raise FhirPathError("now(), today() and timeOfDay() need a clock, which was not given")
    return env.now


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    "extension": Function(_extension, 1, 1),
    "hasValue": Function(_has_value),
    "getValue": Function(_get_value),
    "resolve": Function(_resolve),
    "memberOf": Function(_member_of, 1, 1),
    "conformsTo": Function(_conforms_to, 1, 1),
    "htmlChecks": Function(_html_checks),
    "type": Function(_type),
    "now": Function(lambda env, _items: [Temporal.of(_now(env))]),
    "today": Function(lambda env, _items: [Temporal.of(_now(env)).to("Date")]),
    "timeOfDay": Function(lambda env, _items: [Temporal.of(_now(env)).to("Time")]),
}
