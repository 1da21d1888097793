"""String parameters: beginnings of names and texts, without regard to case and accents.

https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from .kind import Context, Maker, Row, capped, unescape

TABLE: Final = "sp_string"
MODIFIERS: Final = frozenset({"exact", "contains"})
ORDER: Final = ("folded", "folded", 'text COLLATE "C"')

_INDEXED: Final = 200
"""Characters of a text that can be searched."""
_NAME: Final = ("text", "family", "given", "prefix", "suffix")
_ADDRESS: Final = ("text", "line", "city", "district", "state", "postalCode", "country")
_LAST: Final = "\U0010ffff"


class Text(NamedTuple):
    """`how` is None (begins with), `exact` or `contains`, or from an expression `equals` or `ends`; `value` is what was asked, as stored."""

    folded: str
    value: str
    how: str | None


def fold(text: str) -> str:
    """Lower case without marks, at most 200 characters."""
    return text[:_INDEXED].lower() if text.isascii() else folded(text[: _INDEXED * 4])[:_INDEXED]


def folded(text: str) -> str:
    """Lower case without marks, however long."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (folded, value)."""
    del element, context
    return _MAKERS.get(fhir_type)


def row(text: str) -> Row:
    """The row (folded, value) of a text. 0.1 µs for a short one it has seen lately, such as the display of a frequent code."""
    return _known(text) if len(text) <= _INDEXED else _made(text)


def _made(text: str) -> Row:
    return fold(text), capped(text)


_known: Final = lru_cache(maxsize=8192)(_made)


def _plain(value: str) -> tuple[Row, ...]:
    return (row(value),)


def _parts(keys: tuple[str, ...]) -> Maker:
    def parts(value: dict[str, Any]) -> list[Row]:
        rows = []
        for key in keys:
            found = value.get(key)
            if type(found) is str:
                rows.append(row(found))
            elif found is not None:
                rows += [row(item) for item in found if item is not None]
        return rows

    return parts


_MAKERS: Final[dict[str, Maker]] = {
    "HumanName": _parts(_NAME),
    "Address": _parts(_ADDRESS),
    "CodeableConcept": _parts(("text",)),
    "Annotation": _parts(("text",)),
    **dict.fromkeys(("string", "markdown", "code", "id", "uri", "canonical"), _plain),
}


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Text:
    """Any text."""
    del targets, context
    plain = unescape(text)
    return Text(fold(plain), capped(plain), modifier)


def predicate(values: Sequence[Text], at: str) -> Statement:
    """Beginnings and whole values are ranges of the index; `contains` and `ends` read all values of the parameter."""
    return any_of(_condition(value, at) for value in dict.fromkeys(values))


def _condition(value: Text, at: str) -> Statement:
    if value.how == "exact":
        return Statement(f"{at}folded = %s AND {at}value = %s", (value.folded, value.value))
    if value.how == "contains":
        return Statement(f"strpos({at}folded, %s) > 0", (value.folded,))
    if value.how == "equals":
        return Statement(f"{at}folded = %s", (value.folded,))
    if value.how == "ends":
        return Statement(f"right({at}folded, {len(value.folded)}) = %s", (value.folded,))
    # A range rather than LIKE, which a prepared statement cannot turn into one. No text holds the last code point of Unicode, a non-character.
    return Statement(f"{at}folded >= %s AND {at}folded < %s", (value.folded, value.folded + _LAST))


def ends(row: Row) -> tuple[str, str]:
    """The folded text, for either direction."""
    return row[0], row[0]


def matches(value: Text, row: Row) -> bool:
    """The row's text begins with, is, contains or ends with the value's."""
    if value.how == "exact":
        return bool(row[1] == value.value)
    if value.how == "contains":
        return value.folded in row[0]
    if value.how == "equals":
        return bool(row[0] == value.folded)
    if value.how == "ends":
        return bool(row[0].endswith(value.folded))
    return bool(value.folded <= row[0] < value.folded + _LAST)
