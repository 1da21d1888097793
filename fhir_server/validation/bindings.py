"""Required bindings: the code is one of the value set's.

https://hl7.org/fhir/R4/terminologies.html#required

Value sets that the specification cannot list (UCUM, MIME types, currencies) are left to a terminology server.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.spec import Element, Spec

from .faults import Check, Fault, Faults, Scope, fault, kind, shown

_LISTED: Final = 12


def bound_check(spec: Spec, element: Element, inner: Check) -> Check:
    """The check of a coded element: `inner`, and membership where the binding is required and can be listed."""
    binding = element.binding
    codes = spec.codes(binding.value_set) if binding is not None and binding.strength == "required" else None
    if codes is None or binding is None:
        return inner
    if element.type in ("CodeableConcept", "Coding"):
        return _concept(binding.value_set, {(system, code) for system, found in codes.items() for code in found}, inner)
    if element.type in ("code", "uri", "string"):
        return _code(binding.value_set, frozenset(code for found in codes.values() for code in found), inner)
    return inner


def _code(value_set: str, codes: frozenset[str], inner: Check) -> Check:
    def check(value: Any, scope: Scope) -> Faults | None:
        if type(value) is str and value in codes:
            return None
        return inner(value, scope) or fault("code-invalid", f"{_unknown(value, codes, scope)} ({value_set})")

    return check


def _concept(value_set: str, codes: set[tuple[str, str]], inner: Check) -> Check:
    known, systems = frozenset(code for _, code in codes), {system for system, _ in codes}

    def check(value: Any, scope: Scope) -> Faults | None:
        faults = inner(value, scope)
        if faults is not None or type(value) is not dict:
            return faults
        codings = value.get("coding", ()) if "system" not in value and "code" not in value else (value,)
        if not codings or any((coding.get("system"), coding.get("code")) in codes for coding in codings):
            return None
        at = "" if codings == (value,) else ".coding[0]"
        first = codings[0]
        if first.get("code") in known and first.get("system") not in systems:
            return [Fault(f"{at}.system", "code-invalid", f"The system of this code is {' or '.join(sorted(systems))} ({value_set})")]
        return [Fault("", "code-invalid", f"None of the codings is in the value set: {_unknown(first.get('code'), known, scope)} ({value_set})")]

    return check


def _unknown(value: Any, codes: frozenset[str], scope: Scope) -> str:
    if not isinstance(value, str):
        return f"A code is wanted, not {kind(value)}"
    if len(codes) <= _LISTED:
        return f"{shown(value)} is not one of {', '.join(sorted(codes))}"
    return f"{shown(value)} is not one of the {len(codes)} codes{scope.budget.near(value, codes)}"
