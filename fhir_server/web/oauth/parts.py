"""The parts of a record that a person may hold an app to, where it asks for all results or all diagnoses.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from fhir_server.access.apps.words import read_word

_RESULT: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_PROBLEM: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
_US_CORE: Final = "http://hl7.org/fhir/us/core/CodeSystem"
# Categories by which records are kept, of US Core too, with what people call them.
PARTS: Final = {
    "Condition": (
        (f"{_PROBLEM}|problem-list-item", "long-standing problems"),
        (f"{_PROBLEM}|encounter-diagnosis", "diagnoses of single visits"),
        (f"{_US_CORE}/condition-category|health-concern", "concerns about health"),
    ),
    "Observation": (
        (f"{_RESULT}|laboratory", "laboratory results"),
        (f"{_RESULT}|vital-signs", "vital signs"),
        (f"{_RESULT}|social-history", "habits and living, as smoking"),
        (f"{_RESULT}|survey", "answers to questionnaires"),
        (f"{_US_CORE}/us-core-category|sdoh", "work, home and money"),
    ),
}


def parts_of(scope: str) -> list[tuple[str, str]]:
    """The scopes that one for all of a type can be narrowed to, for reading and searching, each with its name; none for any other scope."""
    word = read_word(scope)
    if word is None or word.query or word.type not in PARTS or not word.permissions & set("rs"):
        return []
    seen = frozenset(word.permissions & set("rs"))
    return [(replace(word, permissions=seen, query=f"category={value}", old=False).text, name) for value, name in PARTS[word.type]]


def narrowed(asked: Iterable[str], kept: Collection[str], chosen: Collection[str]) -> list[str]:
    """Of the scopes that were asked for those that are kept, with the parts in place of those of which some are chosen."""
    found: list[str] = []
    for scope in asked:
        if scope in kept:
            found += [part for part, _ in parts_of(scope) if part in chosen] or [scope]
    return list(dict.fromkeys(found))
