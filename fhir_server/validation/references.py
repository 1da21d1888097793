"""References: of a form that can be followed, to a type that the element allows, and to contained resources that are there.

https://hl7.org/fhir/R4/references.html (ref-1)
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fhir_server.spec import Spec

from .faults import MAX_DEPTH, Check, Fault, Faults, Scope, fault, place, shown

_ID = r"[A-Za-z0-9\-.]{1,64}"
_match_id = re.compile(_ID).fullmatch
_match_versioned = re.compile(rf"{_ID}(?:/_history/{_ID})?").fullmatch
_match_local = re.compile(rf"([A-Za-z]+)/{_ID}(?:/_history/{_ID})?").fullmatch
_match_conditional = re.compile(r"([A-Za-z]+)\?\S+").fullmatch
_find_typed = re.compile(rf"/([A-Za-z]+)/{_ID}(?:/_history/{_ID})?$").search
_match_uuid = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_match_oid = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+").fullmatch
_match_absolute = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+").fullmatch
_SAID = ("identifier", "display", "extension", "_reference", "_display")


class _Allowed(NamedTuple):
    every: frozenset[str]
    types: frozenset[str]
    wanted: str


def reference_check(spec: Spec, targets: tuple[str, ...], structure: Check) -> Check:
    """A check of Reference elements that may point to `targets`, empty for any type; `structure` is that of the Reference type."""
    every = frozenset(spec.resource_types)
    types = frozenset(targets) or every
    allowed = _Allowed(every, types, " or ".join(sorted(targets)))

    def check(value: Any, scope: Scope) -> Faults | None:
        if type(value) is dict and len(value) == 1 and scope.depth < MAX_DEPTH and _is_plain(value.get("reference"), types):
            return None
        faults = structure(value, scope)
        if type(value) is not dict:
            return faults
        reference = value.get("reference")
        if type(reference) is str:
            head, _, tail = reference.partition("/")
            if head in types and _match_id(tail) and "type" not in value:
                return faults
            found = _written(reference, value, scope, allowed)
        elif reference is not None or not value or any(key in value for key in _SAID):
            found = _stated_type(value, None, allowed)
        else:
            found = fault("required", "A Reference has a reference, an identifier or a display")
        return faults if found is None else place(faults, "", found)

    return check


def _is_plain(reference: object, types: frozenset[str]) -> bool:
    """Whether it is a type that is allowed and an id, perhaps with a version, and so as right as any text can be."""
    if type(reference) is not str:
        return False
    head, _, tail = reference.partition("/")
    return head in types and _match_versioned(tail) is not None


def _written(reference: str, value: dict[str, Any], scope: Scope, allowed: _Allowed) -> Faults | None:
    if reference.startswith("#"):
        return _to_contained(reference, value, scope, allowed)
    local = _match_local(reference) or _match_conditional(reference)
    if local:
        return _to_type(local[1], value, allowed) if local[1] in allowed.every else _at(f"There is no resource type {shown(local[1])} in FHIR R4")
    for scheme, matches, what in (("urn:uuid:", _match_uuid, "a UUID"), ("urn:oid:", _match_oid, "an OID")):
        if reference.startswith(scheme):
            return _stated_type(value, None, allowed) if matches(reference) else _at(f"This is not {what}: {shown(reference)}")
    if not _match_absolute(reference):
        return _at(f"A reference is '[type]/[id]', an absolute URL, 'urn:uuid:…' or '#[id]'; {shown(reference)} is none of them")
    typed = _find_typed(reference)
    return _to_type(typed[1], value, allowed) if typed and typed[1] in allowed.every else _stated_type(value, None, allowed)


def _to_contained(reference: str, value: dict[str, Any], scope: Scope, allowed: _Allowed) -> Faults | None:
    if reference == "#":
        if scope.resource is scope.root:
            return _at("'#' means the resource that contains this one, and nothing does")
        return _to_type(str(scope.root.get("resourceType")), value, allowed)
    target = scope.contained.get(reference[1:])
    if target is None:
        return [Fault(".reference", "not-found", f"ref-1: no contained resource has the id {shown(reference[1:])}")]
    return _to_type(target, value, allowed)


def _to_type(target: str, value: dict[str, Any], allowed: _Allowed) -> Faults | None:
    if target not in allowed.types:
        return _at(f"This element refers to {allowed.wanted or 'a resource'}, not to {target}")
    return _stated_type(value, target, allowed)


def _stated_type(value: dict[str, Any], target: str | None, allowed: _Allowed) -> Faults | None:
    stated = value.get("type")
    if type(stated) is not str or "/" in stated:
        return None
    if stated not in allowed.every:
        return [Fault(".type", "value", f"There is no resource type {shown(stated)} in FHIR R4")]
    if target is not None and stated != target:
        return [Fault(".type", "value", f"The reference is to {target}, the type says {shown(stated)}")]
    return None if stated in allowed.types else [Fault(".type", "value", f"This element refers to {allowed.wanted}, not to {stated}")]


def _at(text: str) -> Faults:
    return [Fault(".reference", "value", text)]
