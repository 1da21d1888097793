"""A CodeSystem as it is asked: concepts by code, their properties, and what is above and below them.

Nesting, the properties `parent` (or `subsumedBy`) and `child` all say what is below what; a concept may have many parents. What the hierarchy
means is the system's: https://hl7.org/fhir/R4/codesystem.html#hierarchy
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from fhir_server.outcome import Outcome

_STANDARD: Final = "http://hl7.org/fhir/concept-properties#"
_ROLES: Final = {"parent": "parent", "subsumedBy": "parent", "child": "child"}


@dataclass(slots=True)
class Concept:
    """A concept without its place: `properties` are its values by property, booleans as `true` and `false`, Codings as their code."""

    code: str
    display: str | None = None
    properties: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeSystem:
    """A code system whose codes are here, all of them where it is `complete`.

    `properties` are those declared or used, `roles` the ones among them that make the hierarchy: `parent` or `child`.
    """

    url: str
    version: str | None
    name: str | None
    complete: bool
    concepts: Mapping[str, Concept]
    parents: Mapping[str, frozenset[str]]
    children: Mapping[str, frozenset[str]]
    properties: frozenset[str]
    roles: Mapping[str, str]

    @classmethod
    def read(cls, resource: Mapping[str, Any]) -> CodeSystem:
        """The code system of a valid CodeSystem resource; 20 ms for 10,000 concepts. A code that stands in it twice is one concept."""
        concepts: dict[str, Concept] = {}
        pairs: set[tuple[str, str]] = set()
        roles = _roles(resource)
        used: set[str] = set()
        for entry, parent in _walk(resource.get("concept", ())):
            code = entry["code"]
            concept = concepts.setdefault(code, Concept(code))
            concept.display = concept.display or entry.get("display")
            if parent is not None:
                pairs.add((parent, code))
            for name, value in _properties(entry):
                used.add(name)
                if name in roles:
                    pairs.add((value, code) if roles[name] == "parent" else (code, value))
                else:
                    concept.properties.setdefault(name, []).append(value)
        parents: defaultdict[str, set[str]] = defaultdict(set)
        children: defaultdict[str, set[str]] = defaultdict(set)
        for above, below in pairs:
            if above in concepts and below in concepts:
                parents[below].add(above)
                children[above].add(below)
        return cls(
            resource.get("url", ""),
            resource.get("version"),
            resource.get("name"),
            resource.get("content") == "complete",
            concepts,
            {code: frozenset(found) for code, found in parents.items()},
            {code: frozenset(found) for code, found in children.items()},
            frozenset(used | {p["code"] for p in resource.get("property", ()) if "code" in p}) | {"parent", "child"},
            roles,
        )

    def known(self, code: str) -> list[str]:
        """The code as it is written here: itself, or what differs from it in case only, as search compares codes.

        Raises Outcome `parameter` for a code that the system does not have.
        """
        found = [code] if code in self.concepts else self._folded.get(code.lower(), [])
        if not found:
            raise Outcome("parameter", f"The code system '{self.url}' has no code '{code[:100]}'", code="code-invalid")
        return found

    def below(self, code: str) -> set[str]:
        """The code and everything below it, at any depth. Raises Outcome `parameter` for an unknown code."""
        return _reach(self.known(code), self.children)

    def above(self, code: str) -> set[str]:
        """The code and everything above it, up to the roots. Raises Outcome `parameter` for an unknown code."""
        return _reach(self.known(code), self.parents)

    def values(self, concept: Concept, name: str) -> Collection[str]:
        """A concept's values of a property, which may be one of every concept: `code`, `display`, `parent`, `child`."""
        if name in {"concept", "code"}:
            return (concept.code,)
        if name == "display":
            return (concept.display,) if concept.display is not None else ()
        if name in self.roles:
            return (self.parents if self.roles[name] == "parent" else self.children).get(concept.code, ())
        return concept.properties.get(name, ())

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        table: defaultdict[str, list[str]] = defaultdict(list)
        for code in self.concepts:
            table[code.lower()].append(code)
        return table


def usable(resource: Mapping[str, Any]) -> bool:
    """Whether a CodeSystem has concepts to rely on: one with examples only, a supplement or the mere mention of a system has not."""
    return resource.get("content") in {"complete", "fragment"} and bool(resource.get("concept"))


def _roles(resource: Mapping[str, Any]) -> dict[str, str]:
    """The properties that say what is above or below, by the name they have in this system."""
    roles = dict(_ROLES)
    for declared in resource.get("property", ()):
        role = str(declared.get("uri", "")).removeprefix(_STANDARD)
        if role in {"parent", "child"} and "code" in declared:
            roles[declared["code"]] = role
    return roles


def _walk(concepts: Any) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every concept that has a code, with the code it is nested in; without recursion."""
    stack: list[tuple[dict[str, Any], str | None]] = [(concept, None) for concept in reversed(concepts)]
    while stack:
        concept, parent = stack.pop()
        if "code" in concept:
            yield concept, parent
        stack += [(child, concept.get("code", parent)) for child in reversed(concept.get("concept", ()))]


def _properties(concept: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in concept.get("property", ()):
        value = next((value for key, value in entry.items() if key.startswith("value")), None)
        if isinstance(value, dict):
            value = value.get("code")
        if value is not None and "code" in entry:
            yield entry["code"], str(value).lower() if isinstance(value, bool) else str(value)


def _reach(start: list[str], steps: Mapping[str, frozenset[str]]) -> set[str]:
    found = set(start)
    rest = list(start)
    while rest:
        more = steps.get(rest.pop(), frozenset()) - found
        found |= more
        rest += more
    return found
