"""What every parameter type offers, and what it may ask of the server it runs in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from fhir_server.search.statement import Statement
from fhir_server.spec import Element, Spec

Row = tuple[Any, ...]
Maker = Callable[[Any], Sequence[Row]]
"""Rows of one JSON value of a known FHIR type."""

_LONG: Final = 200
_KEPT: Final = 160


@dataclass(frozen=True, slots=True)
class Context:
    """What rows and values depend on beside the element and the text.

    `types` are the numbers of resource types. `zone` gives dates without zone their place in time. `bases` are the server's own URLs, each with a
    slash at its end. `now` is needed for approximate dates only.
    """

    spec: Spec
    types: Mapping[str, int]
    zone: ZoneInfo
    bases: Collection[str] = ()
    now: datetime | None = None


class Kind(Protocol):
    """A parameter type; the modules of this package are such values."""

    @property
    def TABLE(self) -> str:  # noqa: N802 - a constant of a module
        """The table of its rows."""

    @property
    def MODIFIERS(self) -> frozenset[str]:  # noqa: N802
        """Modifiers it understands beside `missing`, which every type has, and those of `reference`, which are type names."""

    @property
    def ORDER(self) -> tuple[str, str, str] | None:  # noqa: N802
        """The columns that order ascending and descending, and their SQL type; None where no row of the table stands for its resource in sorting."""

    def maker(self, fhir_type: str, element: Element | None, context: Context) -> Maker | None:
        """The maker for elements of a FHIR type, None if the parameter type cannot index them."""

    def parse(self, text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Any:
        """The value that one alternative of a query asks for. Raises ValueError with what is wrong with it."""

    def ends(self, row: Row) -> tuple[Any, Any]:
        """What a row sorts by, ascending and descending."""

    def predicate(self, values: Sequence[Any], at: str) -> Statement:
        """The condition that a row of the table satisfies one of the values; `at` is what stands before the names of its columns, such as `f1.`."""

    def matches(self, value: Any, row: Row) -> bool:
        """Whether a row satisfies a value: the same answer as the predicate's."""


def capped(text: str) -> str:
    """The text as an index holds it: beyond 200 bytes the first 160 and a SHA-256, so that equality still holds and an index row fits its page."""
    if len(text) * 4 <= _LONG or len(data := text.encode()) <= _LONG:
        return text
    return data[:_KEPT].decode(errors="ignore") + hashlib.sha256(data).hexdigest()


def split(text: str, separator: str) -> list[str]:
    r"""Parts between unescaped separators, still escaped: `a\,b,c` at `,` is `a\,b` and `c`."""
    if "\\" not in text:
        return text.split(separator)
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return parts


def unescape(text: str) -> str:
    r"""The text with `\,` `\|` `\$` and `\\` replaced by the character; any other backslash stands for itself."""
    if "\\" not in text:
        return text
    out, at = [], 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in tuple(",|$\\"):
            at += 1
        out.append(text[at])
        at += 1
    return "".join(out)
