"""What a profile asks for beyond the specification: elements that have to be or may not be there, fixed values, patterns and invariants.

https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html. What is asked of slices, and bindings, are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from fhir_server import fhirpath
from fhir_server.outcome import Issue
from fhir_server.spec import Spec

_STEPS: Final = 1_000_000
"""Of FHIRPath, for all invariants of a profile over a resource."""
_MOST: Final = 200
"""Faults that are told."""

Json = Mapping[str, Any]


class _Place(NamedTuple):
    """An element that is there: where, and what it is."""

    path: str
    value: Any


def check(profile: Json, resource: Json, spec: Spec) -> list[Issue]:
    """The faults of a valid resource by a StructureDefinition with a snapshot; what the specification asks for anyway is not told again.

    An issue of severity `information` says what was not checked. A profile for another type is one error.
    """
    name, kind = str(profile.get("url", ""))[:200], resource.get("resourceType")
    if profile.get("type") != kind:
        return [Issue("error", "invalid", f"The profile '{name}' is for {profile.get('type')}, not for {kind}")]
    elements = profile.get("snapshot", {}).get("element", [])
    if not elements:
        return [Issue("error", "not-supported", f"The profile '{name}' has no snapshot to validate by")]
    budget = fhirpath.Budget(_STEPS)
    every = (fault for element in elements if not _is_sliced(element) for fault in _faults(element, resource, name, spec, budget))
    issues = list(islice(every, _MOST))
    if any(_is_sliced(element) and element.get("min") for element in elements):
        issues.append(Issue("information", "informational", f"What '{name}' asks of slices is not checked"))
    return issues


def _is_sliced(element: Json) -> bool:
    """Whether it is about some of the items of a list only: what follows a colon is a slice."""
    return ":" in element.get("id", "") or "sliceName" in element


def _faults(element: Json, resource: Json, profile: str, spec: Spec, budget: fhirpath.Budget) -> Iterator[Issue]:
    steps = element["path"].split(".")
    if len(steps) > 1:
        yield from _counted(element, resource, steps, profile)
    asked = next(((key, value) for key, value in element.items() if key.startswith(("fixed", "pattern"))), None)
    rules = [rule for rule in element.get("constraint", ()) if rule.get("source") == profile and "expression" in rule]
    if asked is None and not rules:
        return
    for place in _places(resource, steps):
        if asked is not None and not (_equal(asked[1], place.value) if asked[0].startswith("fixed") else _fits(asked[1], place.value)):
            yield Issue("error", "value", f"{profile}: the value is not what the profile fixes: {asked[1]!s:.200}", (place.path,))
        for rule in rules:
            yield from _broken(rule, element, place, resource, profile, spec, budget)


def _counted(element: Json, resource: Json, steps: list[str], profile: str) -> Iterator[Issue]:
    """Elements that are missing or too many, as far as the profile asks for more than its base does."""
    base, least, most = element.get("base", {}), element.get("min", 0), element.get("max", "*")
    least = least if least != base.get("min") else 0
    most = most if most != base.get("max") else "*"
    if not least and not most.isdecimal():
        return
    for parent in _places(resource, steps[:-1]):
        count = sum(1 for _ in _children(parent, steps[-1], bare=True))
        where = (f"{parent.path}.{steps[-1].removesuffix('[x]')}",)
        if count < least:
            yield Issue("error", "required", f"{profile}: {element['path']} is needed, at least {least} of it; there are {count}", where)
        if most.isdecimal() and count > int(most[:9]):
            yield Issue("error", "structure", f"{profile}: of {element['path']} there may be {most}; there are {count}", where)


def _broken(rule: Json, element: Json, place: _Place, resource: Json, profile: str, spec: Spec, budget: fhirpath.Budget) -> Iterator[Issue]:
    kind = next((each.get("code", "") for each in element.get("type", ())), "")
    context = element["path"] if kind in ("BackboneElement", "Element") else kind or str(resource["resourceType"])
    told = f"{profile}: {rule['key']} does not hold: {rule.get('human', rule['expression'])}"[:500]
    try:
        if not fhirpath.compile(rule["expression"], spec, context, cached=False).true(place.value, resource, resource, budget):
            yield Issue("error" if rule.get("severity") == "error" else "warning", "invariant", told, (place.path,))
    except fhirpath.FhirPathError as error:
        yield Issue("information", "informational", f"{profile}: {rule['key']} cannot be decided: {error}"[:500], (place.path,))


def _places(resource: Json, steps: list[str]) -> Iterator[_Place]:
    """The elements at a path of definitions, such as `Patient.identifier.system`."""
    found = [_Place(steps[0], resource)]
    for step in steps[1:]:
        found = [child for place in found for child in _children(place, step)]
    yield from found


def _children(place: _Place, step: str, *, bare: bool = False) -> Iterator[_Place]:
    """What an element has under a name, or under one of those of a choice (`value[x]`); with `bare` also a primitive that has extensions alone."""
    if not isinstance(place.value, dict):
        return
    stem = step.removesuffix("[x]")
    for key, value in place.value.items():
        name = key.removeprefix("_") if bare and key.startswith("_") and key[1:] not in place.value else key
        if name != stem and not (step.endswith("[x]") and name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper()):
            continue
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items):
            yield _Place(f"{place.path}.{name}" + (f"[{number}]" if isinstance(value, list) else ""), item)


def _equal(wanted: Any, value: Any) -> bool:
    return bool(wanted == value)


def _fits(pattern: Any, value: Any) -> bool:
    """Whether a value has all that a pattern has. https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_"""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(name in value and _fits(part, value[name]) for name, part in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(_fits(part, item) for item in value) for part in pattern)
    return bool(pattern == value)
