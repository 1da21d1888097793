"""The shape of elements: known properties, JSON types, cardinalities, choices, and the `_x` siblings of primitives.

https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/formats.html#choice

Every check here is a closure over what one TypeDef says. An object costs about 0.4 µs and 0.1 µs per property, its values apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.spec import Element, TypeDef

from .faults import MAX_DEPTH, MAX_FAULTS, Check, Fault, Faults, Scope, fault, kind, place, shown
from .invariants import Rule, obeyed

_MOST_KNOWN: Final = 8192
_LONGEST_KNOWN: Final = 400
_LEVELS: Final = 10
"""No text so short that has so many levels is right."""


def object_check(  # noqa: C901 - one closure, see the figures above
    definition: TypeDef, table: Mapping[str, Check], single: Mapping[str, Check], sibling: Check, rules: Sequence[Rule]
) -> Check:
    """The check of objects of a type.

    `table` has the check of each property, `single` of each item where a property repeats a primitive, `sibling` that of `_x` objects;
    these and `rules` may still be empty and be filled later, since types contain each other.
    """
    names = {key: element.name for key, element in definition.elements.items()}
    required = tuple(e.key for e in definition.elements.values() if e.min and not e.choice)
    groups = _choices(definition)
    required_choices = tuple((name, keys) for name, keys, needed in groups if needed)
    exclusive = tuple((name, keys) for name, keys, _ in groups)
    chosen = frozenset[str]().union(*(keys for _, keys in exclusive))
    # With at most this many properties no two can be of one choice, if none that is required is missing.
    apart = len(required) + len(required_choices) + (definition.kind == "resource") + (not required_choices)
    check_of = table.get

    def check(value: Any, scope: Scope) -> Faults | None:  # noqa: C901, PLR0912 - a call for each step would cost more than the steps
        if type(value) is not dict:
            return fault("structure", f"{_article(definition.name)} is written as a JSON object, not as {kind(value)}")
        if not value:
            return fault("structure", "An object is never empty: leave the property out")
        depth = scope.depth
        if depth >= MAX_DEPTH:
            return fault("too-long", f"Elements are nested more than {MAX_DEPTH} levels deep")
        scope.depth = depth + 1
        faults: Faults | None = None
        for key, item in value.items():
            item_check = check_of(key)
            found = item_check(item, scope) if item_check is not None else _odd(key, item, value, scope)
            if found is not None:
                faults = _blame(faults, key, found, value, scope)
                if faults is not None and (len(faults) >= MAX_FAULTS or scope.budget.steps < 0):
                    scope.depth = depth
                    return faults
        for key in required:
            if key not in value and "_" + key not in value:
                faults = place(faults, f".{key}", fault("required", f"{definition.name}.{key} is required"))
        if exclusive and (faults is not None or len(value) > apart) and len(chosen.intersection(value)) > 1:
            for name, keys in exclusive:
                if len(keys.intersection(value)) > 1:
                    faults = _refuse_two(faults, name, keys, value)
        for name, keys in required_choices:
            if keys.isdisjoint(value):
                faults = place(faults, f".{name}", fault("required", f"{definition.name}.{name}[x] is required"))
        if rules:
            faults = obeyed(rules, value, scope, faults)
        scope.depth = depth
        return faults

    def _blame(faults: Faults | None, key: str, found: Faults, value: dict[str, Any], scope: Scope) -> Faults | None:
        siblings = value.get("_" + key)
        if key in single and type(siblings) is list and type(value[key]) is list:
            found = _items_beside(value[key], siblings, single[key], scope) or []
        return place(faults, f".{names.get(key, key)}" if key in table else "", found) if found else faults

    def _odd(key: str, item: Any, value: dict[str, Any], scope: Scope) -> Faults | None:
        name = key[1:]
        element = definition.elements.get(name) if key.startswith("_") else None
        if element is None or not _may_have_sibling(element, single, table):
            return _unknown(key, definition, scope)
        found = _siblings(item, value.get(name), sibling, scope) if element.many else sibling(item, scope)
        return place(None, f".{element.name}", found) if found else None

    return check


def concept_check(structure: Check) -> Check:
    """The check of a CodeableConcept, given that of its structure: the same code comes again and again, and takes 0.5 µs instead of 4 µs then.

    What is remembered is a text and one Coding of nothing but short strings, which no rule and nothing around them can make wrong.
    """
    known: set[tuple[object, ...]] = set()

    def check(value: Any, scope: Scope) -> Faults | None:
        if type(value) is not dict or scope.depth > MAX_DEPTH - 2:
            return structure(value, scope)
        codings, text = value.get("coding"), value.get("text")
        if type(codings) is not list or len(codings) != 1 or type(codings[0]) is not dict or len(value) != (1 if text is None else 2):
            return structure(value, scope)
        key = (text, *codings[0].items())
        try:
            if key in known:
                return None
        except TypeError:
            # An extension; what has one is looked at each time.
            return structure(value, scope)
        faults = structure(value, scope)
        if faults is None and _is_short(text, codings[0]):
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known.add(key)
        return faults

    return check


def known_check(structure: Check) -> Check:
    """The check of elements of texts and numbers that come again as a whole, as reference ranges do: 1 µs for those seen before, not 5 µs."""
    known: set[bytes] = set()

    def check(value: Any, scope: Scope) -> Faults | None:
        if type(value) is not dict or "extension" in value or scope.warnings or scope.depth > MAX_DEPTH - _LEVELS:
            return structure(value, scope)
        try:
            text = fhirjson.dumps(value)
        except (TypeError, ValueError, RecursionError):
            return structure(value, scope)
        if text in known:
            return None
        faults = structure(value, scope)
        # What is inside of an extension, and what a reference is to, may depend on the rest of the resource.
        if faults is None and len(text) <= _LONGEST_KNOWN and b'"extension"' not in text and b'"reference"' not in text:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known.add(text)
        return faults

    return check


def _is_short(text: str | None, coding: Mapping[str, Any]) -> bool:
    # A number or a boolean would be the same key as another one that is wrong in its place: 1, 1.0 and true.
    parts = [*coding.values(), text or ""]
    return all(type(part) is str for part in parts) and sum(map(len, parts)) <= _LONGEST_KNOWN


def repeated(item_check: Check, element: Element) -> Check:
    """The check of an array whose items pass `item_check`."""
    name, most = element.key, element.max

    def check(value: Any, scope: Scope) -> Faults | None:
        if type(value) is not list:
            return fault("structure", f"'{name}' repeats: it is written as a JSON array, not as {kind(value)}")
        if not value:
            return fault("structure", "An array is never empty: leave the property out")
        faults: Faults | None = None
        for index, item in enumerate(value):
            found = item_check(item, scope)
            if found is not None:
                faults = place(faults, f"[{index}]", found)
                if len(faults) >= MAX_FAULTS or scope.budget.steps < 0:
                    break
        if most is not None and len(value) > most:
            faults = place(faults, "", fault("structure", f"'{name}' stands at most {most} times, not {len(value)}"))
        return faults

    return check


def ruled(inner: Check, rules: Sequence[Rule]) -> Check:
    """`inner`, and the invariants that the specification puts on this element alone."""

    def check(value: Any, scope: Scope) -> Faults | None:
        return obeyed(rules, value, scope, inner(value, scope))

    return check


def _choices(definition: TypeDef) -> list[tuple[str, frozenset[str], bool]]:
    keys: dict[str, set[str]] = {}
    for element in definition.elements.values():
        if element.choice:
            keys.setdefault(element.name, set()).add(element.key)
    needed = {e.name for e in definition.elements.values() if e.choice and e.min}
    return [(name, frozenset(found) | {"_" + key for key in found}, name in needed) for name, found in keys.items()]


def _refuse_two(faults: Faults | None, name: str, keys: frozenset[str], value: dict[str, Any]) -> Faults | None:
    found = sorted({key.removeprefix("_") for key in keys.intersection(value)})
    if len(found) < 2:  # noqa: PLR2004 - `valueString` and `_valueString` are one
        return faults
    return place(faults, f".{name}", fault("structure", f"Only one of {name}[x] may stand: there are {', '.join(found)}"))


def _may_have_sibling(element: Element, single: Mapping[str, Check], table: Mapping[str, Check]) -> bool:
    # Types of primitives begin with a lower-case letter; attributes in XML have no room for extensions.
    return element.type[0].islower() and not element.xml_attribute and (element.key in table or element.key in single)


def _siblings(items: Any, values: Any, sibling: Check, scope: Scope) -> Faults | None:
    if type(items) is not list:
        return fault("structure", f"The extensions of a repeating primitive are written as a JSON array, not as {kind(items)}")
    if not items:
        return fault("structure", "An array is never empty: leave the property out")
    beside = values if type(values) is list else ()
    faults: Faults | None = None
    if beside and len(beside) != len(items):
        faults = fault("structure", f"There are {len(beside)} values and {len(items)} entries for their extensions: fill up with null")
    for index, item in enumerate(items):
        if item is not None:
            found = sibling(item, scope)
        elif index >= len(beside):
            found = fault("structure", "There is neither a value nor an extension")
        else:
            continue
        if found is not None:
            faults = place(faults, f"[{index}]", found)
            if len(faults) >= MAX_FAULTS or scope.budget.steps < 0:
                break
    return faults


def _items_beside(values: list[Any], siblings: list[Any], item_check: Check, scope: Scope) -> Faults | None:
    """Faults of the items of a repeating primitive, where null is right if there is an extension beside it."""
    faults: Faults | None = None
    for index, item in enumerate(values):
        if item is None and index < len(siblings) and siblings[index] is not None:
            continue
        found = item_check(item, scope)
        if found is not None:
            faults = place(faults, f"[{index}]", found)
            if len(faults) >= MAX_FAULTS:
                break
    return faults


def _unknown(key: str, definition: TypeDef, scope: Scope) -> Faults:
    hint = scope.budget.near(key, [*definition.elements, *(e.name for e in definition.elements.values() if e.choice)])
    if any(e.choice and e.name == key for e in definition.elements.values()):
        hint = f": it is written with its type, as {', '.join(e.key for e in definition.elements.values() if e.name == key)[:120]}"
    name = key if key.isidentifier() and len(key) <= 64 else ""  # noqa: PLR2004 - longer names are no names
    return [Fault(f".{name}" if name else "", "structure", f"{definition.name} has no element {shown(key)}{hint}")]


def _article(name: str) -> str:
    return f"{'An' if name[0] in 'AEIOU' else 'A'} {name}"
