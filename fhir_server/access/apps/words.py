"""The words that apps ask in: SMART scopes of both versions, as text, and what of them can be given to a client and a person.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.roles import ROLES, RULES
from fhir_server.access.scopes import MESSAGES, parse_scopes
from fhir_server.outcome import Outcome

LONGEST: Final = 4000
"""Characters of a scope text: what is granted stands in every token."""
CONTEXT: Final = ("launch", "launch/patient", "launch/encounter")
"""Words that open nothing: they ask what the app is opened for."""
IDENTITY: Final = ("openid", "fhirUser", "profile")
LASTING: Final = ("offline_access", "online_access")
DEFAULT: Final = " ".join((*IDENTITY, *CONTEXT, *LASTING, "patient/*.cruds", "user/*.cruds"))
"""What a client may ask for that was registered without saying what it wants."""

_SYNTAX: Final = re.compile(r"(patient|user|system)/([A-Z][A-Za-z]{0,63}|\*)\.(read|write|\*|(?=[cruds])c?r?u?d?s?)(?:\?([!-~]{1,500}))?")
_VERSION_1: Final = {"read": frozenset("rs"), "write": frozenset("cud"), "*": frozenset("cruds")}


@dataclass(frozen=True, slots=True)
class Word:
    """One scope for resources: `permissions` are letters out of `cruds`; `old` says that it is written as version 1 has it."""

    level: str
    type: str
    permissions: frozenset[str]
    query: str = ""
    old: bool = False

    @property
    def text(self) -> str:
        """The scope as it is written. One of version 1 that has lost some of its permissions claims the coarse word that holds the rest."""
        asked = f"?{self.query}" if self.query else ""
        if self.old:
            sees, changes = bool(self.permissions & set("rs")), bool(self.permissions & set("cud"))
            return f"{self.level}/{self.type}.{'*' if sees and changes else 'read' if sees else 'write' if changes else ''}{asked}"
        return f"{self.level}/{self.type}.{''.join(letter for letter in 'cruds' if letter in self.permissions)}{asked}"

    def covers(self, other: Word) -> bool:
        """Whether this opens all that the other does."""
        return (
            self.level == other.level and self.type in ("*", other.type) and self.permissions >= other.permissions and self.query in ("", other.query)
        )


def read_word(text: str) -> Word | None:
    """The scope for resources that a text is; None for another word, and for what could not be held to, as a type that R4 does not have."""
    match = _SYNTAX.fullmatch(text)
    if match is None:
        return None
    level, name, letters, query = match.groups()
    permissions = _VERSION_1.get(letters) or frozenset(letters)
    if query:
        # What narrows by a query is for reading and searching.
        permissions &= set("rs")
    word = Word(level, name, permissions, query or "", letters in _VERSION_1)
    try:
        # What a token carries is read there at each door.
        parse_scopes(word.text, "any")
    except Outcome:
        return None
    return word


def known(text: str) -> str:
    """The words of a text that mean something here, each once."""
    plain = {*CONTEXT, *IDENTITY, *LASTING, MESSAGES}
    return " ".join(dict.fromkeys(word for word in text.split() if word in plain or read_word(word) is not None))


def grantable(asked: str, allowed: str, roles: Sequence[str]) -> tuple[str, ...]:
    """Of what is asked that which the client may have and a person with these roles can have; without roles, what a service can have for itself."""
    permitted = allowed.split()
    bounds = [word for word in map(read_word, permitted) if word is not None]
    levels = {"patient", "user"} if roles else {"system"}
    found: list[str] = []
    for text in asked.split():
        word = read_word(text)
        if word is None:
            if not roles and text == MESSAGES and text in permitted:
                found.append(text)
            if roles and (text in CONTEXT or (text in permitted and text in (*IDENTITY, *LASTING))):
                found.append(text)
        elif word.level in levels:
            found += [left.text for bound in bounds if (left := _both(word, bound, roles)) is not None]
    return tuple(dict.fromkeys(found))


def covered(wanted: Iterable[str], given: Iterable[str]) -> bool:
    """Whether everything wanted is among what was given, or less than that."""
    have = set(given)
    bounds = [word for word in map(read_word, have) if word is not None]
    return all(text in have or ((word := read_word(text)) is not None and any(bound.covers(word) for bound in bounds)) for text in wanted)


def opens(words: Iterable[str]) -> bool:
    """Whether any of the words opens something: resources, or who the person is."""
    return any(word in ("openid", MESSAGES) or read_word(word) is not None for word in words)


def needs_patient(scope: str) -> bool:
    """Whether the scopes are about the record of one patient."""
    return any(word in ("launch/patient", "launch") or word.startswith("patient/") for word in scope.split())


def _both(word: Word, bound: Word, roles: Sequence[str]) -> Word | None:
    if word.level != bound.level or ("*" not in (word.type, bound.type) and word.type != bound.type):
        return None
    if word.query and bound.query and word.query != bound.query:
        return None
    name = bound.type if word.type == "*" else word.type
    query = word.query or bound.query
    permissions = word.permissions & bound.permissions & (_ever(roles, name) if roles else set("cruds"))
    if query:
        permissions &= set("rs")
    if not permissions or (query and name == "*"):
        return None
    left = Word(word.level, name, frozenset(permissions), query, word.old)
    # The coarse words of version 1 would claim what the client was never registered for; of what its person's roles lack they give nothing.
    claimed = read_word(left.text)
    return left if claimed is not None and claimed.permissions <= bound.permissions else replace(left, old=False)


def _ever(roles: Sequence[str], name: str) -> set[str]:
    """What the roles open of a type, or of any type, to somebody at some time."""
    rules = (rule for role in ROLES if role in roles for rule in RULES[role])
    return {letter for rule in rules if name == "*" or name in rule.types.split() for letter in rule.permissions}
