"""Invariants: those every resource meets as plain predicates, the others through the FHIRPath engine.

https://hl7.org/fhir/R4/conformance-rules.html#constraints. An expression holds unless its result is false, see `Expression.true`.
Predicates exist where the same question costs a tenth of the expression, or where the expression compares all pairs of what may be many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from fhir_server import fhirpath
from fhir_server.spec import Constraint, Spec

from .faults import Fault, Faults, Scope, place

Holds = Callable[[Any, Scope], bool | str]
"""Whether an invariant holds; a text says why that cannot be decided, which is a fault too."""
_ZONE_AT: Final = 19
"""Where a dateTime has its fraction and zone."""
_LONG: Final = 10
"""Digits from which on a number may be beyond FHIRPath's integers."""


class Rule(NamedTuple):
    """An invariant ready to run: its predicate over the element, and the fault it is reported as."""

    holds: Holds
    severity: str
    key: str
    expression: str
    fault: Fault

    def undecided(self, why: str, scope: Scope) -> Fault:
        """The fault where it cannot be said whether the invariant holds: an error if the budget is used up, be the rule advice only."""
        text = f"{self.key} cannot be decided: {why}: {self.expression}"
        return self.fault._replace(text=text) if scope.budget.steps >= 0 else Fault("", "too-costly", text)


IMPLIED: Final = {
    "dom-2": "the check of contained resources",
    "dom-4": "the check of contained resources",
    "dom-5": "the check of contained resources",
    "ref-1": "the check of references",
    "txt-1": "the check of narratives",
    "txt-2": "the check of narratives",
}
"""Invariants that another check proves, by key."""

CORRECTED: Final = {
    # `Boolean` is the System type, which a FHIR element never has: as published no questionnaire could use `exists`.
    "que-7": "operator = 'exists' implies (answer is boolean)",
}
"""Expressions that cannot mean what they say, by key."""

ADVICE: Final = {
    "app-2": "give both start and end, or neither",
    "app-3": "only proposed, cancelled and waitlisted appointments may lack start and end",
    "att-1": "data needs a contentType",
    "bdl-5": "an entry has a resource, a request or a response",
    "con-4": "a condition that has abated is inactive, resolved or in remission",
    "con-5": "a condition entered in error has no clinicalStatus",
    "cpt-2": "a contact point with a value needs its system",
    "dom-3": "something in the resource refers to each contained resource, or it refers to '#'",
    "dom-6": "a resource should have a narrative",
    "ext-1": "an extension has either a value or extensions",
    "obs-6": "either a value or the reason why it is absent",
    "obs-7": "a component may not have the observation's own code if there is a value too",
    "org-1": "an organization has a name or an identifier",
    "pat-1": "a contact has a name, a telecom, an address or an organization",
    "per-1": "a period does not end before it starts",
    "qty-3": "a coded unit needs its system",
    "rng-2": "low is not above high",
}
"""What to do about the more frequent ones, in a few words."""


def rules(spec: Spec, constraints: Iterable[Constraint], context: str) -> list[Rule]:
    """The rules of a type or element whose focus is of the type `context`."""
    return [_rule(spec, c, context) for c in constraints if c.key not in IMPLIED]


def _rule(spec: Spec, constraint: Constraint, context: str) -> Rule:
    key = constraint.key
    advice = f" ({ADVICE[key]})" if key in ADVICE else ""
    expression = constraint.expression[:200]
    reported = Fault("", "invariant", f"{key} does not hold{advice}: {expression}", constraint.severity)
    holds = _NATIVE.get(key) or _evaluated(CORRECTED.get(key, constraint.expression), spec, context)
    if key in _SHORTER:
        holds = _SHORTER[key](holds)
    return Rule(holds, constraint.severity, key, expression, reported)


def obeyed(rules: Sequence[Rule], value: Any, scope: Scope, faults: Faults | None) -> Faults | None:
    """The faults so far and those of the rules that do not hold. Ends at once when the budget is used up, with a fault that says so."""
    budget = scope.budget
    budget.steps -= len(rules)
    if budget.steps < 0:
        return place(faults, "", [rules[0].undecided("there are too many elements before this one", scope)])
    warnings = scope.warnings
    for rule in rules:
        # Nothing of a rule that holds is looked up by name.
        if (rule[1] == "error" or warnings) and (verdict := rule[0](value, scope)) is not True:
            faults = place(faults, "", [rule.fault if verdict is False else rule.undecided(str(verdict), scope)])
            if budget.steps < 0:
                break
    return faults


def _evaluated(text: str, spec: Spec, context: str) -> Holds:
    expression = fhirpath.compile(text, spec, context)
    true = expression.true

    def holds(value: Any, scope: Scope) -> bool | str:
        try:
            return true(value, scope.resource, scope.root, scope.budget)
        except fhirpath.FhirPathError as error:
            if error.category == "too-costly":
                scope.budget.steps = -1
            return error.message

    return holds


def _extension(value: dict[str, Any], _scope: Scope) -> bool:
    if "extension" in value:
        return not any(key.startswith(("value", "_value")) for key in value)
    return any(key.startswith(("value", "_value")) for key in value)


def _surely(test: Callable[[Any], bool]) -> Callable[[Holds], Holds]:
    """A rule that holds where the test says so, which costs less than the expression; that is asked only about the others."""

    def shorter(evaluated: Holds) -> Holds:
        return lambda value, scope: test(value) or evaluated(value, scope)

    return shorter


def _period(value: dict[str, Any]) -> bool:
    start, end = value.get("start"), value.get("end")
    if type(start) is not str or type(end) is not str:
        return True
    # Of one precision and one zone, as nearly always, the texts sort as the times do.
    return start <= end and len(start) == len(end) and start[_ZONE_AT:] == end[_ZONE_AT:]


def _is_limit(value: Any) -> TypeGuard[str]:
    return type(value) is str and (value == "*" or (value.isdecimal() and value.isascii() and len(value) < _LONG))


def _in_limits(value: dict[str, Any]) -> bool:
    least, most = value.get("min"), value.get("max")
    return type(least) is int and _is_limit(most) and (most == "*" or least <= int(most))


def _at_most(key: str, most: int) -> Callable[[dict[str, Any]], bool]:
    def test(value: dict[str, Any]) -> bool:
        items = value.get(key, ())
        return type(items) in (list, tuple) and len(items) <= most

    return test


def _code_has_system(value: dict[str, Any], _scope: Scope) -> bool:
    return "code" not in value or "system" in value or "_system" in value


def _value_has_system(value: dict[str, Any], _scope: Scope) -> bool:
    return "value" not in value or "system" in value or "_system" in value


def _data_has_type(value: dict[str, Any], _scope: Scope) -> bool:
    return "data" not in value or "contentType" in value or "_contentType" in value


def _contained_used(value: dict[str, Any], scope: Scope) -> bool:
    contained = value.get("contained")
    if type(contained) is not list:
        return True
    fragments = _fragments([child for key, child in value.items() if key != "contained"], scope)
    outward = [_fragments([resource], scope) for resource in contained]
    fragments.update(*outward)
    return all(
        "#" in own or (type(resource) is dict and f"#{resource.get('id')}" in fragments) for resource, own in zip(contained, outward, strict=True)
    )


def _fragments(values: list[Any], scope: Scope) -> set[str]:
    """Every string that begins with '#', of whatever type: to leave out a text that happens to look so would cost a second typed walk."""
    found: set[str] = set()
    seen = 0
    while values:
        value = values.pop()
        if type(value) is str:
            if value[:1] == "#":
                found.add(value)
        elif type(value) is dict:
            values.extend(value.values())
        elif type(value) is list:
            values.extend(value)
        seen += 1
    # A contained Bundle may hold resources with contained ones: what is below is walked again at each level.
    scope.budget.steps -= seen >> 3
    return found


def _full_urls_differ(value: dict[str, Any], _scope: Scope) -> bool:
    # As published the comparison of all pairs of 20,000 entries takes minutes in some engines.
    entries = value.get("entry")
    if value.get("type") == "history" or type(entries) is not list:
        return True
    seen: set[tuple[Any, Any]] = set()
    for entry in entries:
        if type(entry) is not dict or type(entry.get("fullUrl")) is not str:
            continue
        resource = entry.get("resource")
        meta = resource.get("meta") if type(resource) is dict else None
        version = meta.get("versionId") if type(meta) is dict else None
        identity = (entry["fullUrl"], version if type(version) is str else None)
        if identity in seen:
            return False
        seen.add(identity)
    return True


def _has_part(part: str, kinds: tuple[str, ...]) -> Holds:
    def holds(value: dict[str, Any], _scope: Scope) -> bool:
        entries, wanted = value.get("entry"), value.get("type") in kinds
        return type(entries) is not list or all(type(e) is not dict or (part in e) is wanted for e in entries)

    return holds


def _unlike(key: str, below: str) -> Callable[[Holds], Holds]:
    """A rule that no two `key` in the tree of `below` are the same. Contained resources may have such trees too: they are left to the expression."""

    def native(evaluated: Holds) -> Holds:
        def holds(value: dict[str, Any], scope: Scope) -> bool | str:
            if "contained" in value:
                return evaluated(value, scope)
            found: list[str] = []
            level: list[Any] = [value]
            while level:
                level = [item for parent in level if type(parent) is dict and type(items := parent.get(below)) is list for item in items]
                found += [item[key] for item in level if type(item) is dict and type(item.get(key)) is str]
            return len(set(found)) == len(found)

        return holds

    return native


def _text_matches(key: str, pattern: str) -> Holds:
    # The engine's own regular expressions take 150 µs for a path; these two patterns cannot backtrack.
    matches = re.compile(pattern).search

    def holds(value: dict[str, Any], _scope: Scope) -> bool:
        text = value.get(key)
        return type(text) is not str or matches(text) is not None

    return holds


_SHORTER: Final[dict[str, Callable[[Holds], Holds]]] = {
    "csd-1": _unlike("code", "concept"),
    "eld-2": _surely(_in_limits),
    "eld-3": _surely(_is_limit),
    "eld-13": _surely(_at_most("type", 1)),
    "eld-14": _surely(_at_most("constraint", 1)),
    "per-1": _surely(_period),
    "que-2": _unlike("linkId", "item"),
    "que-12": _surely(_at_most("enableWhen", 2)),
    "que-13": _surely(_at_most("initial", 1)),
}
"""Shorter ways for what is frequent or large; they ask the expression about the rest."""

_NATIVE: Final[dict[str, Holds]] = {
    "att-1": _data_has_type,
    "bdl-3": _has_part("request", ("batch", "transaction", "history")),
    "bdl-4": _has_part("response", ("batch-response", "transaction-response", "history")),
    "bdl-7": _full_urls_differ,
    "cpt-2": _value_has_system,
    "dom-3": _contained_used,
    "eld-16": _text_matches("sliceName", r"\A[a-zA-Z0-9/\-_\[\]@]+\Z"),
    "eld-19": _text_matches("path", r"""[^\s.,:;'"/|?!@#$%&*()\[\]{}]"""),
    "ext-1": _extension,
    "qty-3": _code_has_system,
}
