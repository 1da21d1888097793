"""Bindings of a profile: whether coded elements have a code of the value set.

https://hl7.org/fhir/R4/terminologies.html#strength. What is not in a required value set is an error, what is not in an extensible one a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Member = Callable[[str, str | None, str], bool | str]
"""Whether a value set has a code of a system, None for any system; a text says why that cannot be told."""
CODED: Final = frozenset({"code", "Coding", "CodeableConcept", "Quantity"})
"""Types whose values have a code."""
_TEXTS: Final = frozenset({"string", "uri"})
_MOST: Final = 100
"""Codings of a concept that are looked at."""


def is_coded(kind: str, *, choice: bool) -> bool:
    """Whether a binding is about an element of the type; of a choice it is not about the texts."""
    return kind in CODED or (kind in _TEXTS and not choice)


def verdict(member: Member, value_set: str, kind: str, value: Any) -> bool | str:
    """Whether a value has a code of the value set, or why that cannot be told."""
    found: bool | str = False
    for system, code in pairs(kind, value):
        one = member(value_set, system, code)
        if one is True:
            return True
        found = found or one
    return found


def pairs(kind: str, value: Any) -> list[tuple[str | None, str]]:
    """Systems and codes of a value; the system of a plain code is None, that of a Coding without one is empty."""
    if kind in _TEXTS or kind == "code":
        return [(None, value)] if isinstance(value, str) else []
    if not isinstance(value, dict):
        return []
    codings = value.get("coding", ()) if kind == "CodeableConcept" else (value,)
    if not isinstance(codings, (list, tuple)):
        return []
    return [(str(each.get("system", "")), each["code"]) for each in codings[:_MOST] if isinstance(each, dict) and isinstance(each.get("code"), str)]


def shown(kind: str, value: Any) -> str:
    """The codes of a value as a message tells them."""
    told = ", ".join(code if not system else f"{system}|{code}" for system, code in pairs(kind, value)[:5])
    return f"'{told:.200}'" if told else "no code"
