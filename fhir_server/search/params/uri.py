"""URI parameters: equal as written, character by character, or above or below each other by the segments of their paths.

https://hl7.org/fhir/R4/search.html#uri
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from fhir_server.search.statement import Statement, any_of, equals
from fhir_server.spec import Element

from .kind import Context, Maker, Row, capped, unescape

TABLE: Final = "sp_uri"
MODIFIERS: Final = frozenset({"above", "below"})
ORDER: Final = ("value", "value", 'text COLLATE "C"')

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^/]+)(/.*)?", re.ASCII | re.DOTALL)
_MOST_SEGMENTS: Final = 50
_ORDERED: Final = 150
"""Bytes of a URL by which long ones, too, stand in order: what follows may be a digest."""


class Address(NamedTuple):
    """`below`: itself and what begins with it and a slash; else one of `urls`."""

    urls: tuple[str, ...]
    below: bool = False


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (value,)."""
    del element, context
    if fhir_type == "canonical":
        return _canonical
    return _plain if fhir_type in {"uri", "url", "oid", "uuid", "string"} else None


def _plain(value: str) -> tuple[Row, ...]:
    return ((capped(value),),)


def _canonical(value: str) -> tuple[Row, ...]:
    # Who asks for a canonical URL without version means any version.
    return ((capped(value),), (capped(value.partition("|")[0]),)) if "|" in value else ((capped(value),),)


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Address:
    """Any text; with `above` and `below` a URL, which URNs are not."""
    del targets, context
    plain = unescape(text)
    if modifier == "below":
        return Address((top(plain),), below=True)
    return Address(tuple(map(capped, ancestors(plain) if modifier == "above" else [plain])))


def top(url: str) -> str:
    """The URL that others are below. Raises ValueError for what is no URL, and for one too long for the order of the index."""
    if not _URL.fullmatch(url):
        raise ValueError(f"is no URL such as http://example.org/a, the only URIs that have others below them: '{url[:80]}'")
    if len(url.encode()) > _ORDERED:
        raise ValueError(f"is longer than the {_ORDERED} bytes that can have others below them")
    return url.rstrip("/")


def ancestors(url: str) -> list[str]:
    """A URL and all above it, each with a slash at its end and without, up to its host. Raises ValueError for what is none, or too deep."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"is no URL such as http://example.org/a, the only URIs that have others above them: '{url[:80]}'")
    host, path = found[1], (found[2] or "").strip("/")
    segments = path.split("/") if path else []
    if len(segments) > _MOST_SEGMENTS:
        raise ValueError(f"has {len(segments)} segments; {_MOST_SEGMENTS} are the most")
    above = ["/".join((host, *segments[:number])) for number in range(len(segments), -1, -1)]
    return [form for one in above for form in (one, one + "/")]


def predicate(values: Sequence[Address], at: str) -> Statement:
    """An equation; a range of the index for what lies below."""
    same = list(dict.fromkeys(url for value in values if not value.below for url in value.urls))
    parts = [equals(f"{at}value", same)] if same else []
    parts += [below(f"{at}value", value.urls[0], "/") for value in dict.fromkeys(values) if value.below]
    return any_of(parts)


def below(column: str, url: str, separator: str) -> Statement:
    """The column is a URL, or begins with it and a separator."""
    return Statement(f"({column} = %s OR {column} >= %s AND {column} < %s)", (url, url + separator, url + chr(ord(separator) + 1)))


def is_below(text: str, url: str, separator: str) -> bool:
    """The same in memory."""
    return text == url or url + separator <= text < url + chr(ord(separator) + 1)


def ends(row: Row) -> tuple[str, str]:
    """The value, for either direction."""
    return row[0], row[0]


def matches(value: Address, row: Row) -> bool:
    """Equal to one, or below it."""
    return is_below(row[0], value.urls[0], "/") if value.below else row[0] in value.urls
