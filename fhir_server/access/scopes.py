"""SMART scopes for resources, version 1 (`patient/*.read`) and version 2 (`user/Observation.rs?category=laboratory`).

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.outcome import Outcome
from fhir_server.search import Scope
from fhir_server.spec import r4

Level = Literal["patient", "user", "system"]

_SYNTAX: Final = re.compile(r"(patient|user|system)/([A-Z][A-Za-z]{0,63}|\*)\.(read|write|\*|(?=[cruds])c?r?u?d?s?)")
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a scope text asks for: the resource scopes, and the levels they stand on."""

    resources: tuple[Scope, ...]
    levels: frozenset[str]


def parse_scopes(text: str) -> Scopes:
    """The scopes of a text that are separated by blanks.

    Raises Outcome `parameter` for a scope that is not of this syntax, for an unknown resource type, and for one that narrows by a query what it
    cannot narrow: every type at once, or more than reading and searching.
    """
    resources: list[Scope] = []
    levels: set[str] = set()
    for part in text.split():
        plain, asks, query = part.partition("?")
        match = _SYNTAX.fullmatch(plain)
        if match is None:
            raise Outcome("parameter", f"'{part}' is not a scope as user/Patient.rs, patient/*.read or system/*.cruds")
        level, name, permissions = match.groups()
        if name != "*" and name not in r4().resource_types:
            raise Outcome("parameter", f"The scope '{part}' names a resource type that R4 does not have")
        allowed = frozenset(_VERSION_1.get(permissions, permissions))
        if asks and (not query or name == "*" or not allowed <= set("rs")):
            raise Outcome("parameter", f"The scope '{part}' narrows by a query: that is for reading and searching one type, as Observation.rs?code=1")
        levels.add(level)
        resources.append(Scope(name, allowed, query))
    return Scopes(tuple(resources), frozenset(levels))


def narrow(wide: Iterable[Scope], by: Iterable[Scope]) -> tuple[Scope, ...]:
    """What both allow. Those of `wide` have no queries."""
    narrowing = tuple(by)
    found: dict[tuple[str, str], frozenset[str]] = {}
    for left in wide:
        for right in narrowing:
            if "*" in (left.type, right.type) or left.type == right.type:
                name = right.type if left.type == "*" else left.type
                both = left.permissions & right.permissions
                if both:
                    found[name, right.query] = found.get((name, right.query), frozenset()) | both
    return tuple(Scope(name, permissions, query) for (name, query), permissions in found.items())
