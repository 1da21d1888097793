"""Token parameters: codes with their system, compared without regard to case.

https://hl7.org/fhir/R4/search.html#token

All four forms work on every element: `code`, `system|code`, `|code` for one without system, `system|` for any of a system. An element of type `code`
has the system that its required binding implies, so that `|code` does not find it; booleans, texts and URIs have none. Nor have contact points: what
they call their system is a kind, and `phone=`, `email=` ask for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of, equals
from fhir_server.spec import Element

from .kind import Context, Maker, Row, capped, split, unescape

TABLE: Final = "sp_token"
MODIFIERS: Final = frozenset({"not"})
ORDER: Final = ("code", "code", 'text COLLATE "C"')

_SHORT: Final = 50
"""ASCII characters of a code that an index holds as it is."""


class Token(NamedTuple):
    """`code` None is any code of the system but those in `but`; `system` None is any system, empty is none."""

    code: str | None
    system: str | None
    but: tuple[str, ...] = ()


def folded(code: str) -> str:
    """The code as it is stored. The specification leaves case to the code system and asks for tolerance where that is unknown."""
    # The usual short ones spare the way through `capped`; another alphabet's letters may become more when they are lowered.
    return code.lower() if len(code) <= _SHORT and code.isascii() else capped(code.lower())


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (code, system URL or empty)."""
    if fhir_type == "code":
        listed = {code: ((folded(code), system),) for code, system in _systems(element, context).items()}
        return lambda value: listed.get(value) or _plain(value)
    return _MAKERS.get(fhir_type)


def _systems(element: Element | None, context: Context) -> dict[str, str]:
    """The implied system of each code that a required binding allows."""
    if element is None or element.binding is None or element.binding.strength != "required":
        return {}
    listed = context.spec.codes(element.binding.value_set) or {}
    return {code: system for system, codes in listed.items() for code in codes}


def _coding(value: dict[str, Any]) -> tuple[Row, ...]:
    code, system = value.get("code"), value.get("system", "")
    return ((folded(code or ""), system),) if code or system else ()


def _concept(value: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for coding in value.get("coding", ()):
        rows += _coding(coding)
    return rows


def _identifier(value: dict[str, Any]) -> tuple[Row, ...]:
    return ((folded(value["value"]), value.get("system", "")),) if "value" in value else ()


def _contact(value: dict[str, Any]) -> tuple[Row, ...]:
    # The system of a contact point is a kind (phone, email), no namespace: the specification leaves it to the server, and clients send none.
    return ((folded(value["value"]), ""),) if "value" in value else ()


def _boolean(value: bool) -> tuple[Row, ...]:  # noqa: FBT001 - a JSON value
    return (("true" if value else "false", ""),)


def _plain(value: str) -> tuple[Row, ...]:
    return ((folded(value), ""),)


_MAKERS: Final[dict[str, Maker]] = {
    "Coding": _coding,
    "CodeableConcept": _concept,
    "Identifier": _identifier,
    "ContactPoint": _contact,
    "boolean": _boolean,
    **dict.fromkeys(("string", "uri", "url", "canonical", "oid", "uuid", "id", "markdown"), _plain),
}


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Token:
    """`code`, `system|code`, `|code` or `system|`."""
    del modifier, targets, context
    system, *rest = split(text, "|")
    if not rest:
        return Token(folded(unescape(system)), None)
    if len(rest) > 1:
        raise ValueError(f"has more than one '|', unlike [system]|[code]; write \\| for one that is part of the code: '{text[:80]}'")
    code = unescape(rest[0])
    if not code and not system:
        raise ValueError(f"has neither the system nor the code of [system]|[code]: '{text[:80]}'")
    return Token(folded(code) if code else None, unescape(system))


def predicate(values: Sequence[Token], at: str) -> Statement:
    """One equation per system."""
    by_system: defaultdict[str | None, list[str | None]] = defaultdict(list)
    most: list[Statement] = []
    for code, system, but in dict.fromkeys(values):
        if system is not None and but:
            most.append(in_system(system, at).and_(Statement(f"{at}code <> ALL(%s::text[])", (list(but),))))
        else:
            by_system[system].append(code)
    return any_of([*(_in_system(system, codes, at) for system, codes in by_system.items()), *most])


def _in_system(system: str | None, codes: list[str | None], at: str) -> Statement:
    if system is None:
        return equals(f"{at}code", codes)
    within = in_system(system, at)
    return within if None in codes else equals(f"{at}code", codes).and_(within)


def in_system(system: str, at: str) -> Statement:
    """The row's system is this URL, or there is none for an empty one. A URL nobody has used yet matches nothing."""
    if not system:
        return Statement(f"{at}system = 0")
    return Statement(f"{at}system = (SELECT sid FROM token_system WHERE url = %s)", (capped(system),))  # noqa: S608 - our own names


def ends(row: Row) -> tuple[str, str]:
    """The value, for either direction."""
    return row[0], row[0]


def matches(value: Token, row: Row) -> bool:
    """Code and system agree as far as they are asked for."""
    if row[0] in value.but:
        return False
    return (value.code is None or value.code == row[0]) and (value.system is None or value.system == row[1])
