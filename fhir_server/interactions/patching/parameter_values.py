"""What the parts of a FHIRPath Patch operation say: texts, indexes, and values for elements, nested parts included.

https://hl7.org/fhir/R4/fhirpatch.html: `value` is a value[x], or parts with the names of the elements of a type that has no value[x].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.outcome import Outcome
from fhir_server.spec import Element, Spec, TypeDef

from .slots import Occurrence, write

Part = Mapping[str, Any]


def part(operation: Part, name: str) -> Part:
    """The part of that name. Raises Outcome `malformed` if there is none or more than one."""
    found = [p for p in _parts(operation) if p.get("name") == name]
    if len(found) != 1:
        raise Outcome("malformed", f"this operation needs {'one' if found else 'a'} part '{name}'{f', not {len(found)}' if found else ''}")
    return found[0]


def text(operation: Part, name: str) -> str:
    """The string of a part. Raises Outcome `malformed` if it is not there or of another type."""
    value = _stated(part(operation, name))[1].value
    if type(value) is not str:
        raise Outcome("malformed", f"the part '{name}' is a string")
    return value


def integer(operation: Part, name: str) -> int:
    """The integer of a part. Raises Outcome `malformed` if it is not there or of another type."""
    value = _stated(part(operation, name))[1].value
    if type(value) is not int:
        raise Outcome("malformed", f"the part '{name}' is an integer")
    return value


def element_named(definition: TypeDef, name: str, given: Part) -> Element:
    """The element that a name means: a property, or a choice by its name and the type of the given value.

    Raises Outcome `malformed` if the type has no such element, or none of that type.
    """
    exact = definition.elements.get(name)
    if exact is not None:
        return exact
    name = name.removesuffix("[x]")
    suffix, _ = _stated(given)
    chosen = definition.elements.get(f"{name}{suffix}")
    if chosen is None or not chosen.choice or chosen.name != name:
        raise Outcome("malformed", f"{definition.name} has no element '{name[:64]}' for this value")
    return chosen


def occurrence(spec: Spec, given: Part, element: Element) -> Occurrence:
    """The value of a part, for that element. Raises Outcome `malformed` if there is none, or its parts do not fit the element's type."""
    _, plain = _stated(given)
    inner = _parts(given)
    if bool(inner) is not plain.empty:
        raise Outcome("malformed", f"the part '{str(given.get('name'))[:64]}' has either a value or parts")
    if not inner:
        return plain
    assembled = _assembled(spec, inner, spec.types[element.type])
    return Occurrence(None, assembled) if spec.types[element.type].kind == "primitive" else Occurrence(assembled)


def _parts(parameter: Part) -> list[dict[str, Any]]:
    found = parameter.get("part", [])
    if type(found) is not list or any(type(p) is not dict for p in found):
        raise Outcome("malformed", "the parts are a list of objects with names")
    return found


def _stated(parameter: Part) -> tuple[str | None, Occurrence]:
    """The suffix of the value[x] that a part has, and the value; `resource` counts as a value without a suffix."""
    if "resource" in parameter:
        return None, Occurrence(parameter["resource"])
    keys = sorted({key.removeprefix("_") for key in parameter if key.startswith(("value", "_value"))})
    if len(keys) > 1:
        raise Outcome("malformed", f"a part has one value, not {', '.join(keys)[:120]}")
    if not keys:
        return None, Occurrence(None)
    return keys[0].removeprefix("value"), Occurrence(parameter.get(keys[0]), parameter.get("_" + keys[0]))


def _assembled(spec: Spec, inner: list[dict[str, Any]], definition: TypeDef) -> dict[str, Any]:
    found: dict[str, tuple[Element, list[Occurrence]]] = {}
    for given in inner:
        name = given.get("name")
        if type(name) is not str:
            raise Outcome("malformed", "a part has a name")
        element = element_named(definition, name, given)
        found.setdefault(element.key, (element, []))[1].append(occurrence(spec, given, element))
    result: dict[str, Any] = {}
    for element, occurrences in found.values():
        if len(occurrences) > 1 and not element.many:
            raise Outcome("malformed", f"{definition.name}.{element.name} does not repeat")
        write(result, element, occurrences)
    return result
