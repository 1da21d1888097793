"""Filters of a value set's include or exclude: the codes of a system that have a property.

https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, Literal

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.regex import compile_pattern
from fhir_server.outcome import Outcome

from .code_system import CodeSystem

_ITSELF: Final = frozenset({"concept", "code"})
_OF_EVERY_CONCEPT: Final = _ITSELF | {"display"}
_HIERARCHY: Final = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})

_Test = Callable[[Collection[str]], bool]


def select(system: CodeSystem, rule: dict[str, Any], steps: list[int]) -> set[str]:
    """The codes that one filter lets through; `steps` are what regular expressions may still take, and are charged.

    Raises Outcome `business-rule` for an operator or property that cannot be had here or a faulty regular expression, `too-costly` for a dear one,
    and `parameter` for a code that the system does not have.
    """
    name, operator, value = (str(rule.get(key, "")) for key in ("property", "op", "value"))
    if operator in _HIERARCHY:
        if name not in _ITSELF:
            raise _refused(system, rule, f"the hierarchy is asked for with the property 'concept', not '{name[:50]}'")
        return _related(system, operator, value)
    if name not in _OF_EVERY_CONCEPT and name not in system.properties:
        raise _refused(system, rule, f"it has no property '{name[:50]}' here")
    test = _test(system, rule, operator, value, steps)
    return {code for code, concept in system.concepts.items() if test(system.values(concept, name))}


def _related(system: CodeSystem, operator: str, code: str) -> set[str]:
    if operator == "generalizes":
        return system.above(code)
    below = system.below(code)
    if operator == "descendent-of":
        return below.difference(system.known(code))
    return below if operator == "is-a" else set(system.concepts) - below


def _test(system: CodeSystem, rule: dict[str, Any], operator: str, value: str, steps: list[int]) -> _Test:
    if operator == "=":
        return lambda values: value in values
    if operator in {"in", "not-in"}:
        listed = frozenset(part.strip() for part in value.split(","))
        return lambda values: listed.isdisjoint(values) is (operator == "not-in")
    if operator == "exists":
        if value not in {"true", "false"}:
            raise _refused(system, rule, "the value of exists is true or false")
        return lambda values: bool(values) is (value == "true")
    if operator == "regex":
        return _regex(system, rule, value, steps)
    raise _refused(system, rule, "this operator is not known here")


def _regex(system: CodeSystem, rule: dict[str, Any], pattern: str, steps: list[int]) -> _Test:
    try:
        compiled = compile_pattern(pattern)
    except FhirPathError as error:
        raise _refused(system, rule, error.message) from None

    def test(values: Collection[str]) -> bool:
        try:
            return any(compiled.fullmatch(value, steps) is not None for value in values)
        except FhirPathError as error:
            raise _refused(system, rule, error.message, "too-costly") from None

    return test


def _refused(system: CodeSystem, rule: dict[str, Any], reason: str, category: Literal["business-rule", "too-costly"] = "business-rule") -> Outcome:
    told = " ".join(str(rule.get(key, ""))[:100] for key in ("property", "op", "value"))
    return Outcome(category, f"The filter '{told}' on the code system '{system.url}' cannot be answered: {reason}")
