"""URI parameters: equal as written, character by character.

https://hl7.org/fhir/R4/search.html#uri
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fhir_server.search.statement import Statement, equals
from fhir_server.spec import Element

from .kind import Context, Maker, Row, capped, unescape

TABLE: Final = "sp_uri"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("value", "value", 'text COLLATE "C"')


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (value,)."""
    del element, context
    if fhir_type == "canonical":
        return _canonical
    return _plain if fhir_type in {"uri", "url", "oid", "uuid", "string"} else None


def _plain(value: str) -> tuple[Row, ...]:
    return ((capped(value),),)


def _canonical(value: str) -> Iterator[Row]:
    # Who asks for a canonical URL without version means any version.
    yield (capped(value),)
    if "|" in value:
        yield (capped(value.partition("|")[0]),)


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> str:
    """Any text."""
    del modifier, targets, context
    return capped(unescape(text))


def predicate(values: Sequence[str], at: str) -> Statement:
    """An equation."""
    return equals(f"{at}value", list(dict.fromkeys(values)))


def ends(row: Row) -> tuple[str, str]:
    """The value, for either direction."""
    return row[0], row[0]


def matches(value: str, row: Row) -> bool:
    """Equal."""
    return bool(row[0] == value)
