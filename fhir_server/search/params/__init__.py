"""Parameter types: how each makes rows from an element, reads a value from a query, finds it by SQL and knows it in memory.

https://hl7.org/fhir/R4/search.html#ptypes

Every module has the same five names, so that the registry, the parser, the compiler and `matches` need no case per type.
A row here is without `pid` at its head and `rid` at its tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from fhir_server.spec.model import SearchType

from . import composite, date, number, position, quantity, reference, string, token, uri, words
from .derived import DERIVED
from .kind import Context, Kind, Maker, Row

KINDS: Final[Mapping[str, Kind]] = {
    "date": date,
    "number": number,
    "quantity": quantity,
    "reference": reference,
    "string": string,
    "token": token,
    "uri": uri,
}


SPECIAL: Final[Mapping[str, Kind]] = {"near": position}
"""Special parameters by code."""


class Named(Protocol):
    """A parameter as far as its kind depends on it: a Param or a SearchParam."""

    @property
    def code(self) -> str:
        """Its name in queries."""

    @property
    def type(self) -> SearchType:
        """Its type."""

    @property
    def components(self) -> Sequence[Any]:
        """The parts of a composite."""


def kind_of(param: Named) -> Kind:
    """How a parameter's rows are made and asked for: by its type, but for full text and for what a modifier asks for, such as `code:text`.

    A composite must be a Param, whose parts have types. KeyError for what has no kind.
    """
    if param.code in (words.CONTENT, words.NARRATIVE):
        return words
    if param.type == "composite":
        return composite.kind(tuple(part.type for part in param.components), tuple(part.targets for part in param.components))
    if param.type == "special":
        return SPECIAL[param.code]
    return DERIVED[param.code.partition(":")[2]] if ":" in param.code else KINDS[param.type]


__all__ = ["DERIVED", "KINDS", "SPECIAL", "Context", "Kind", "Maker", "Row", "kind_of"]
