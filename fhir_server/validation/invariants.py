"""Invariants: those every resource meets as plain predicates, the others through the FHIRPath engine.

https://hl7.org/fhir/R4/conformance-rules.html#constraints. An expression holds unless its result is false, see `Expression.true`.
Predicates exist where the same question costs a tenth of the expression, or where the expression compares all pairs of what may be many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from fhir_server import fhirpath
from fhir_server.spec import Constraint, Spec

from .faults import MAX_DEPTH, Fault, Scope

Holds = Callable[[Any, Scope], bool | str]
"""Whether an invariant holds; a text says why that cannot be decided, which is a fault too."""
_ZONE_AT: Final = 19
"""Where a dateTime has its fraction and zone."""


class Rule(NamedTuple):
    """An invariant ready to run: its predicate over the element, and the fault it is reported as."""

    holds: Holds
    severity: str
    fault: Fault

    def report(self, verdict: bool | str) -> list[Fault]:  # noqa: FBT001 - what `holds` returned
        """The fault of an invariant whose verdict is not True."""
        return [self.fault if verdict is False else self.fault._replace(text=f"{self.fault.text.partition(' ')[0]} cannot be decided: {verdict}")]


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
    reported = Fault("", "invariant", f"{key} does not hold{advice}: {constraint.expression[:200]}", constraint.severity)
    holds = _NATIVE.get(key) or _evaluated(CORRECTED.get(key, constraint.expression), spec, context)
    return Rule(_period(holds) if key == "per-1" else holds, constraint.severity, reported)


def _evaluated(text: str, spec: Spec, context: str) -> Holds:
    expression = fhirpath.compile(text, spec, context)
    true = expression.true

    def holds(value: Any, scope: Scope) -> bool | str:
        try:
            return true(value, resource=scope.resource, root=scope.root)
        except fhirpath.FhirPathError as error:
            return error.message

    return holds


def _extension(value: dict[str, Any], _scope: Scope) -> bool:
    if "extension" in value:
        return not any(key.startswith(("value", "_value")) for key in value)
    return any(key.startswith(("value", "_value")) for key in value)


def _period(evaluated: Holds) -> Holds:
    def holds(value: dict[str, Any], scope: Scope) -> bool | str:
        start, end = value.get("start"), value.get("end")
        if type(start) is not str or type(end) is not str:
            return True
        # Of one precision and one zone, as nearly always, the texts sort as the times do.
        return start <= end if len(start) == len(end) and start[_ZONE_AT:] == end[_ZONE_AT:] else evaluated(value, scope)

    return holds


def _code_has_system(value: dict[str, Any], _scope: Scope) -> bool:
    return "code" not in value or "system" in value or "_system" in value


def _value_has_system(value: dict[str, Any], _scope: Scope) -> bool:
    return "value" not in value or "system" in value or "_system" in value


def _data_has_type(value: dict[str, Any], _scope: Scope) -> bool:
    return "data" not in value or "contentType" in value or "_contentType" in value


def _contained_used(value: dict[str, Any], _scope: Scope) -> bool:
    contained = value.get("contained")
    if type(contained) is not list:
        return True
    fragments: set[str] = set()
    for key, child in value.items():
        if key != "contained":
            _gather(child, fragments, 0)
    outward: list[set[str]] = []
    for resource in contained:
        own: set[str] = set()
        _gather(resource, own, 0)
        outward.append(own)
        fragments |= own
    return all(
        "#" in own or (type(resource) is dict and f"#{resource.get('id')}" in fragments) for resource, own in zip(contained, outward, strict=True)
    )


def _gather(value: Any, fragments: set[str], depth: int) -> None:
    # Any string that begins with '#' counts, of whatever type: to leave out a text that happens to look so would cost a second typed walk.
    if type(value) is str:
        if value.startswith("#"):
            fragments.add(value)
    elif depth < 2 * MAX_DEPTH:
        for child in value.values() if type(value) is dict else value if type(value) is list else ():
            _gather(child, fragments, depth + 1)


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


_NATIVE: Final[dict[str, Holds]] = {
    "att-1": _data_has_type,
    "bdl-3": _has_part("request", ("batch", "transaction", "history")),
    "bdl-4": _has_part("response", ("batch-response", "transaction-response", "history")),
    "bdl-7": _full_urls_differ,
    "cpt-2": _value_has_system,
    "dom-3": _contained_used,
    "ext-1": _extension,
    "qty-3": _code_has_system,
}
