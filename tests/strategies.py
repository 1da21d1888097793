"""Hypothesis strategies for valid resources, driven by the StructureDefinitions.

`resources("Patient")` gives decoded JSON that passes the validator, invariants included: what a random choice of elements
breaks of them is repaired by leaving out, adding or changing elements of the object at fault.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from fhir_server.fhirjson import Number
from fhir_server.spec import Element, TypeDef, r4
from fhir_server.validation import Validator

JsonObject = dict[str, Any]
Draw = st.DrawFn

COMMON_TYPES = (
    "Patient", "Practitioner", "Organization", "Location", "Encounter", "Observation", "Condition", "Procedure", "MedicationRequest",
    "DiagnosticReport", "Appointment", "Schedule", "Slot", "ServiceRequest", "Claim", "Invoice", "Task", "Questionnaire", "ValueSet", "Provenance",
)  # fmt: skip
"""Types a clinic meets every day; a good default where all 146 would take too long."""

_DEEPEST = 4
_EXTENSION_VALUES = (
    "valueString",
    "valueCode",
    "valueBoolean",
    "valueInteger",
    "valueDecimal",
    "valueDateTime",
    "valueCodeableConcept",
    "valueQuantity",
)
_SYSTEMS = ("http://loinc.org", "http://snomed.info/sct", "http://example.org/codes", "urn:oid:1.2.36.146.595.217.0.1")
_XMLNS = "http://www.w3.org/1999/xhtml"
_NOT_CHOSEN = {"Resource", "ElementDefinition", "StructureDefinition.snapshot", "StructureDefinition.differential"}
_FIXED: dict[str, JsonObject] = {
    # Its elements must begin with its type, have ids, and so on: no random choice does.
    "StructureDefinition": {
        "type": "Patient",
        "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "differential": {"element": [{"id": "Patient", "path": "Patient"}, {"id": "Patient.name", "path": "Patient.name", "min": 1}]},
    },
}
_text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12).filter(lambda s: s.strip() == s)
_ids = st.from_regex(r"[A-Za-z0-9\-.]{1,12}", fullmatch=True)
_words = st.sampled_from(("alpha", "beta-2", "Müller", "O'Neil", "a,b", "x|y", "$z", "naïve \\ test"))
_days = st.dates(dt.date(1900, 1, 1), dt.date(2100, 12, 31))
_zones = st.sampled_from(("Z", "+00:00", "-05:00", "+14:00", "+05:30"))


@st.composite
def resources(draw: Draw, resource_type: str | None = None) -> JsonObject:
    """A valid resource of the type, of one of COMMON_TYPES if none is given; about a dozen elements, sometimes with a contained one."""
    name = resource_type or draw(st.sampled_from(COMMON_TYPES))
    resource = _complex(draw, _types()[name], 0)
    if "contained" in _types()[name].elements and draw(st.integers(0, 4)) == 0:
        _add_contained(draw, resource)
    return _repaired(draw, resource)


def find(resource: JsonObject, expression: str) -> tuple[Any, list[str | int]]:
    """The value at a location such as `Patient.contact[0].gender`, and its JSON path; choices are found by their name."""
    here: Any = resource
    path: list[str | int] = []
    for name, index in re.findall(r"\.([A-Za-z0-9]+)|\[(\d+)\]", expression.partition(".")[1] + expression.partition(".")[2]):
        step: str | int = int(index) if index else name
        if isinstance(step, str) and step not in here:
            step = next((key for key in here if re.fullmatch(rf"{step}[A-Z]\w*", key)), "_" + step)
        here = here[step]
        path.append(step)
    return here, path


@cache
def validator() -> Validator:
    """The validator that generated resources pass."""
    return Validator(r4())


def _types() -> Any:
    return r4().types


def _complex(draw: Draw, definition: TypeDef, depth: int) -> JsonObject:
    result: JsonObject = {"resourceType": definition.name} if definition.kind == "resource" else {}
    required = [e for e in definition.elements.values() if e.min]
    optional = [e for e in definition.elements.values() if not e.min and _wanted(e, depth)]
    most = (6, 3, 2, 1)[depth] if depth < _DEEPEST else 0
    chosen = draw(st.lists(st.sampled_from(optional), max_size=most, unique_by=lambda e: e.name)) if optional and most else []
    if not chosen and not required and optional:
        chosen = [draw(st.sampled_from(optional))]
    for element in _one_per_choice(draw, required) + chosen:
        _put(draw, result, element, depth)
    return result | copy.deepcopy(_FIXED.get(definition.name, {}))


def _wanted(element: Element, depth: int) -> bool:
    if element.max == 0 or element.type in _NOT_CHOSEN or element.name in ("contained", "implicitRules", "modifierExtension"):
        return False
    if depth >= _DEEPEST:
        return element.type[0].islower() and element.type != "xhtml"
    return element.name != "extension" or depth < _DEEPEST - 1


def _one_per_choice(draw: Draw, required: list[Element]) -> list[Element]:
    by_name: dict[str, list[Element]] = {}
    for element in required:
        by_name.setdefault(element.name, []).append(element)
    return [found[0] if len(found) == 1 else draw(st.sampled_from(found)) for found in by_name.values()]


def _put(draw: Draw, target: JsonObject, element: Element, depth: int) -> None:
    primitive = element.type[0].islower() and element.type != "xhtml"
    if not element.many:
        target[element.key] = _value(draw, element, depth)
        if primitive and not element.xml_attribute and element.key != "id" and draw(st.integers(0, 14)) == 0:
            target["_" + element.key] = _sibling(draw)
        return
    count = draw(st.integers(1, 2 if depth < _DEEPEST else 1))
    items: list[Any] = [_value(draw, element, depth) for _ in range(count)]
    if primitive and draw(st.integers(0, 9)) == 0:
        siblings = [_sibling(draw) if draw(st.booleans()) else None for _ in items]
        if any(siblings):
            items = [None if sibling is not None and draw(st.booleans()) else item for item, sibling in zip(items, siblings, strict=True)]
            target["_" + element.key] = siblings
    if any(item is not None for item in items):
        target[element.key] = items


def _sibling(draw: Draw) -> JsonObject:
    if draw(st.booleans()):
        return {"id": draw(_ids)}
    return {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


def _value(draw: Draw, element: Element, depth: int) -> Any:
    if element.key in _BY_NAME:
        return draw(_BY_NAME[element.key])
    binding = element.binding
    codes = _codes(binding.value_set) if binding and binding.strength == "required" else None
    if codes is not None and element.type in ("code", "CodeableConcept"):
        system, code = draw(codes)
        return code if element.type == "code" else {"coding": [{"system": system, "code": code}]}
    if element.type in _PRIMITIVES:
        return draw(_PRIMITIVES[element.type])
    if element.type in _SPECIAL:
        return _SPECIAL[element.type](draw, element, depth)
    return _complex(draw, _types()[element.type], depth + 1)


@cache
def _codes(value_set: str) -> st.SearchStrategy[tuple[str, str]] | None:
    """The codes of a value set with their systems; some have thousands."""
    listed = r4().codes(value_set)
    return st.sampled_from([(system, code) for system, found in sorted(listed.items()) for code in found]) if listed else None


def _resource(draw: Draw, _element: Element, depth: int) -> JsonObject:
    return _complex(draw, _types()[draw(st.sampled_from(("Patient", "Basic", "Organization", "Binary")))], depth + 2)


def _coding(draw: Draw, _element: Element, _depth: int) -> JsonObject:
    return {"system": draw(st.sampled_from(_SYSTEMS)), "code": draw(_PRIMITIVES["code"])}


def _extension(draw: Draw, _element: Element | None, depth: int) -> JsonObject:
    depth += 1
    url = "http://example.org/extension/" + draw(_ids)
    if depth < _DEEPEST and draw(st.integers(0, 5)) == 0:
        return {"url": url, "extension": [_extension(draw, None, depth)]}
    element = _types()["Extension"].elements[draw(st.sampled_from(_EXTENSION_VALUES))]
    return {"url": url, element.key: _value(draw, element, depth)}


def _reference(draw: Draw, element: Element, depth: int) -> JsonObject:
    target = draw(st.sampled_from(element.targets or COMMON_TYPES))
    form = draw(st.integers(0, 7))
    if form == 0:
        return {"display": draw(_text)}
    if form == 1 and depth < _DEEPEST:
        return {"type": target, "identifier": {"system": draw(_PRIMITIVES["uri"]), "value": draw(_words)}}
    text = {2: f"http://example.org/fhir/{target}/{draw(_ids)}", 3: draw(_PRIMITIVES["uuid"]), 4: f"{target}/{draw(_ids)}/_history/2"}
    return {"reference": text.get(form) or f"{target}/{draw(_ids)}"}


def _period(draw: Draw, _element: Element, _depth: int) -> JsonObject:
    start, end = sorted((draw(_days), draw(_days)))
    return draw(st.sampled_from(({"start": start.isoformat()}, {"end": f"{end:%Y-%m}"}, {"start": start.isoformat(), "end": end.isoformat()})))


def _add_contained(draw: Draw, resource: JsonObject) -> None:
    inner = _complex(draw, _types()[draw(st.sampled_from(("Organization", "Patient", "Medication", "Practitioner")))], 2)
    inner = {key: value for key, value in inner.items() if key not in ("meta", "id")} | {"id": "c1"}
    resource["contained"] = [inner]
    pointer = {"url": "http://example.org/extension/contained", "valueReference": {"reference": "#c1"}}
    resource["extension"] = [*resource.get("extension", []), pointer]


def _repaired(draw: Draw, resource: JsonObject) -> JsonObject:
    issues = validator().check(resource)
    for _ in range(12):
        if not issues:
            return resource
        unexpected = [i for i in issues if i.code != "invariant"]
        assert not unexpected, f"the generator made what the validator refuses: {unexpected[:3]} in {resource}"
        least = len(issues)
        for variant in _variants(draw, resource, issues[0].expression[0]):
            found = validator().check(variant)
            if len(found) < len(issues):
                resource, issues = variant, found
            if not issues:
                break
        if len(issues) == least:
            break
    assume(not issues)
    return resource


def _variants(draw: Draw, resource: JsonObject, expression: str) -> Iterator[JsonObject]:
    """The resource with one thing changed in the object at fault, or around it."""
    _, path = find(resource, expression)
    for length in range(len(path), -1, -1):
        definition = _type_at(resource, path[:length])
        if definition is None:
            continue
        target = _at(resource, path[:length])
        for key in list(target):
            name = key.removeprefix("_")
            element = definition.elements.get(name)
            if element is not None and not element.min:
                yield _changed(resource, path[:length], name, None)
            if element is not None and element.many and key == name and "_" + name not in target:
                yield _changed(resource, path[:length], name, [*target[name], _value(draw, element, _DEEPEST - 1)])
            if element is not None and element.binding is not None and element.type == "code" and not element.many:
                codes = [code for found in (r4().codes(element.binding.value_set) or {}).values() for code in found]
                yield from (_changed(resource, path[:length], name, code) for code in codes[:24])
        for element in definition.elements.values():
            if (
                element.key not in target
                and not element.xml_attribute
                and _wanted(element, _DEEPEST - 1)
                and element.name not in ("id", "extension", "meta")
            ):
                value = _value(draw, element, _DEEPEST - 1)
                yield _changed(resource, path[:length], element.key, [value] if element.many else value)


def _changed(resource: JsonObject, path: list[str | int], key: str, value: Any) -> JsonObject:
    changed = resource.copy()
    target: Any = changed
    for step in path:
        target[step] = target[step].copy()
        target = target[step]
    target.pop("_" + key, None)
    target.pop(key, None)
    if value is not None:
        target[key] = value
    cleaned: JsonObject = _without_hollow(changed)
    return cleaned


def _without_hollow(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_hollow(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [item for item in map(_without_hollow, value) if item not in ({}, [])]
    return value


def _at(resource: Any, path: list[str | int]) -> Any:
    for step in path:
        resource = resource[step]
    return resource


def _type_at(resource: JsonObject, path: list[str | int]) -> TypeDef | None:
    """The type of the object at a path; None where there is an array or a primitive."""
    here: Any = resource
    definition: TypeDef = _types()[resource["resourceType"]]
    for step in path:
        here = here[step]
        if isinstance(step, str):
            if step.startswith("_"):
                return None
            definition = _types()[definition.elements[step].type]
        if isinstance(here, dict) and "resourceType" in here:
            definition = _types()[here["resourceType"]]
    return definition if isinstance(here, dict) else None


@st.composite
def _partial_days(draw: Draw) -> str:
    return draw(_days).isoformat()[: draw(st.sampled_from((4, 7, 10, 10)))]


@st.composite
def _instants(draw: Draw) -> str:
    second = draw(st.sampled_from(("00", "07", "59.5", "30.123", "01.000001")))
    return f"{draw(_days).isoformat()}T{draw(st.integers(0, 23)):02}:{draw(st.integers(0, 59)):02}:{second}{draw(_zones)}"


_decimals = st.one_of(
    st.integers(0, 10**6),
    st.decimals(0, 10**6, places=2).map(lambda d: Number(f"{d:.2f}")),
    st.sampled_from(("1.10", "0.0", "1e3", "1E-2", "120.000", "0.000000000000000001", "-3.5")).map(Number),
)
_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "id": _ids,
    "currency": st.sampled_from(("EUR", "USD", "JPY")),
    "coordinateSystem": st.integers(0, 1),  # msq-3
}
_uris = st.builds(lambda name: f"http://example.org/{name}", _ids)
_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "base64Binary": st.binary(min_size=1, max_size=12).map(lambda b: base64.b64encode(b).decode()),
    "boolean": st.booleans(),
    "canonical": st.builds(lambda url, version: url + version, _uris, st.sampled_from(("", "|1.0", "|2020"))),
    "code": st.from_regex(r"[a-z][a-z0-9\-]{0,8}( [a-z]{1,4})?", fullmatch=True),
    "date": _partial_days(),
    "dateTime": st.one_of(_partial_days(), _instants()),
    "decimal": _decimals,
    "id": _ids,
    "instant": _instants(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "markdown": st.one_of(_text, st.just("# Title\n\n* one\n* two")),
    "oid": st.sampled_from(("urn:oid:1.2.3", "urn:oid:2.16.840.1.113883.6.1")),
    "positiveInt": st.integers(1, 2**31 - 1),
    "string": st.one_of(_words, _text),
    "time": st.builds(lambda h, m: f"{h:02}:{m:02}:00", st.integers(0, 23), st.integers(0, 59)),
    "unsignedInt": st.integers(0, 2**31 - 1),
    "uri": _uris,
    "url": _uris,
    "uuid": st.uuids().map(lambda u: f"urn:uuid:{u}"),
    "xhtml": st.sampled_from((f'<div xmlns="{_XMLNS}">text</div>', f'<div xmlns="{_XMLNS}"><p>A <b>bold</b> &lt;word&gt;</p><br/></div>')),
}

_SPECIAL: dict[str, Callable[[Draw, Element, int], JsonObject]] = {
    "Coding": _coding,
    "Extension": _extension,
    "Period": _period,
    "Reference": _reference,
    "Resource": _resource,
}
