"""SMART scopes for resources, version 1 (`patient/*.read`) and version 2 (`user/Observation.rs?category=laboratory`).

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import parse_qsl

from fhir_server.outcome import Outcome
from fhir_server.search import Scope
from fhir_server.spec import r4

Level = Literal["patient", "user", "system"]

_SYNTAX: Final = re.compile(r"(patient|user|system)/([A-Z][A-Za-z]{0,63}|\*)\.(read|write|\*|(?=[cruds])c?r?u?d?s?)")
_MAX_FIELDS: Final = 20
_OF_OTHERS: Final = frozenset({"_filter", "_has", "_list"})
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": "cruds"}


BESIDES: Final = frozenset({"openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "offline_access", "online_access"})
"""Scopes that open no resources: what an app is told, and how long it may go on."""
MESSAGES: Final = "hl7v2"
"""The scope that lets a sender hand in messages of HL7 v2, and opens nothing else."""
BOARD: Final = "board"
"""The scope that opens the board of one queue, which the token names, and nothing else."""


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a scope text asks for: the resource scopes, those of the level `patient` held to the patient, and the levels they stand on."""

    resources: tuple[Scope, ...]
    levels: frozenset[str]


def parse_scopes(text: str, patient: str | None = None) -> Scopes:
    """The scopes of a text that are separated by blanks; those that open no resources are left out.

    Raises Outcome `parameter` for a scope that is not of this syntax, for an unknown resource type, for one of the level `patient` without a patient,
    and for one that narrows by a query what it cannot narrow: every type at once, more than reading and searching, or by other resources.
    """
    resources: list[Scope] = []
    levels: set[str] = set()
    for part in text.split():
        if part in BESIDES:
            continue
        if part in {MESSAGES, BOARD}:
            levels.add("system")
            resources.append(Scope(part, frozenset()))
            continue
        level, scope = _parsed(part)
        levels.add(level)
        if level == "patient":
            if patient is None:
                raise Outcome("parameter", "Scopes that begin with patient/ need the id of the patient")
            scope = replace(scope, patient=patient)
        resources.append(scope)
    return Scopes(tuple(resources), frozenset(levels))


def _parsed(part: str) -> tuple[str, Scope]:
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
    try:
        codes = [code for code, _ in parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)]
    except ValueError:
        raise Outcome("parameter", f"A scope narrows by at most {_MAX_FIELDS} parameters") from None
    # A chain, which an expression may have in it too, would tell of resources that the scope itself does not open.
    if any("." in code or code.partition(":")[0] in _OF_OTHERS for code in codes):
        raise Outcome("parameter", f"The scope '{part}' narrows by other resources; it can by the type's own parameters only")
    return level, Scope(name, allowed, query)


def narrow(wide: Iterable[Scope], by: Iterable[Scope]) -> tuple[Scope, ...]:
    """What both allow."""
    narrowing = tuple(by)
    found: dict[tuple[str, str, str | None], frozenset[str]] = {}
    for left in wide:
        for right in narrowing:
            both = left.permissions & right.permissions
            met = "*" in (left.type, right.type) or left.type == right.type
            one = left.patient is None or right.patient is None or left.patient == right.patient
            if both and met and one:
                name = right.type if left.type == "*" else left.type
                query = "&".join(part for part in (left.query, right.query) if part)
                key = (name, query, left.patient or right.patient)
                found[key] = found.get(key, frozenset()) | both
    return tuple(Scope(name, permissions, query, patient) for (name, query, patient), permissions in found.items())
