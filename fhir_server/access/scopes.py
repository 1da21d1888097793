"""SMART scopes for resources, version 1 (`patient/*.read`) and version 2 (`user/Observation.rs`).

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

    Raises Outcome `parameter` for a scope that is not of this syntax, one with a `?query` part (not supported), and an unknown resource type.
    """
    resources: list[Scope] = []
    levels: set[str] = set()
    for part in text.split():
        if "?" in part:
            raise Outcome("parameter", f"The scope '{part}' narrows by a query, which is not supported", code="not-supported")
        match = _SYNTAX.fullmatch(part)
        if match is None:
            raise Outcome("parameter", f"'{part}' is not a scope as user/Patient.rs, patient/*.read or system/*.cruds")
        level, name, permissions = match.groups()
        if name != "*" and name not in r4().resource_types:
            raise Outcome("parameter", f"The scope '{part}' names a resource type that R4 does not have")
        levels.add(level)
        resources.append(Scope(name, frozenset(_VERSION_1.get(permissions, permissions))))
    return Scopes(tuple(resources), frozenset(levels))


def narrow(wide: Iterable[Scope], by: Iterable[Scope]) -> tuple[Scope, ...]:
    """What both allow."""
    narrowing = tuple(by)
    found: dict[str, frozenset[str]] = {}
    for left in wide:
        for right in narrowing:
            if "*" in (left.type, right.type) or left.type == right.type:
                name = right.type if left.type == "*" else left.type
                both = left.permissions & right.permissions
                if both:
                    found[name] = found.get(name, frozenset()) | both
    return tuple(Scope(name, permissions) for name, permissions in found.items())
