"""References: of a form that can be followed, to a type that the element allows, and to contained resources that are there.

https://hl7.org/fhir/R4/references.html (ref-1)
"""

from __future__ import annotations

import re
from typing import Any

from fhir_server.spec import Spec

from .faults import Check, Fault, Faults, Scope, fault, place, shown

_ID = r"[A-Za-z0-9\-.]{1,64}"
_match_id = re.compile(_ID).fullmatch
_match_local = re.compile(rf"([A-Za-z]+)/{_ID}(?:/_history/{_ID})?").fullmatch
_match_conditional = re.compile(r"([A-Za-z]+)\?\S+").fullmatch
_find_typed = re.compile(rf"/([A-Za-z]+)/{_ID}(?:/_history/{_ID})?$").search
_match_uuid = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_match_oid = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+").fullmatch
_match_absolute = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+").fullmatch
_SAID = ("identifier", "display", "extension", "_reference", "_display")


def reference_check(spec: Spec, targets: tuple[str, ...], structure: Check) -> Check:
    """A check of Reference elements that may point to `targets`, empty for any type; `structure` is that of the Reference type."""
    every = frozenset(spec.resource_types)
    allowed = frozenset(targets) or every
    wanted = " or ".join(sorted(targets))

    def check(value: Any, scope: Scope) -> Faults | None:
        faults = structure(value, scope)
        if type(value) is not dict:
            return faults
        reference = value.get("reference")
        if type(reference) is str:
            head, _, tail = reference.partition("/")
            if head in allowed and _match_id(tail) and "type" not in value:
                return faults
            found = _reference(reference, value, scope)
        elif reference is not None or not value or any(key in value for key in _SAID):
            found = _stated_type(value, None)
        else:
            found = fault("required", "A Reference has a reference, an identifier or a display")
        return faults if found is None else place(faults, "", found)

    def _reference(reference: str, value: dict[str, Any], scope: Scope) -> Faults | None:
        if reference.startswith("#"):
            return _contained(reference, value, scope)
        found = _match_local(reference) or _match_conditional(reference)
        if found:
            if found[1] not in every:
                return _at(f"There is no resource type {shown(found[1])} in FHIR R4")
            return _target(found[1], value)
        if reference.startswith("urn:uuid:"):
            return _stated_type(value, None) if _match_uuid(reference) else _at(f"This is not a UUID: {shown(reference)}")
        if reference.startswith("urn:oid:"):
            return _stated_type(value, None) if _match_oid(reference) else _at(f"This is not an OID: {shown(reference)}")
        if not _match_absolute(reference):
            return _at(f"A reference is '[type]/[id]', an absolute URL, 'urn:uuid:…' or '#[id]'; {shown(reference)} is none of them")
        typed = _find_typed(reference)
        return _target(typed[1], value) if typed and typed[1] in every else _stated_type(value, None)

    def _contained(reference: str, value: dict[str, Any], scope: Scope) -> Faults | None:
        if reference == "#":
            if scope.resource is scope.root:
                return _at("'#' means the resource that contains this one, and nothing does")
            return _target(str(scope.root.get("resourceType")), value)
        target = scope.contained.get(reference[1:])
        if target is None:
            return [Fault(".reference", "not-found", f"ref-1: no contained resource has the id {shown(reference[1:])}")]
        return _target(target, value)

    def _target(target: str, value: dict[str, Any]) -> Faults | None:
        if target not in allowed:
            return _at(f"This element refers to {wanted}, not to {target}")
        return _stated_type(value, target)

    def _stated_type(value: dict[str, Any], target: str | None) -> Faults | None:
        stated = value.get("type")
        if type(stated) is not str or "/" in stated:
            return None
        if target is not None and stated != target:
            return [Fault(".type", "value", f"The reference is to {target}, the type says {shown(stated)}")]
        if stated not in every:
            return [Fault(".type", "value", f"There is no resource type {shown(stated)} in FHIR R4")]
        return None if stated in allowed else [Fault(".type", "value", f"This element refers to {wanted}, not to {stated}")]

    def _at(text: str) -> Faults:
        return [Fault(".reference", "value", text)]

    return check
