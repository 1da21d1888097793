"""Parameter types: how each makes rows from an element, reads a value from a query, finds it by SQL and knows it in memory.

https://hl7.org/fhir/R4/search.html#ptypes

Every module has the same five names, so that the registry, the parser, the compiler and `matches` need no case per type.
A row here is without `pid` at its head and `rid` at its tail. Composite and special parameters have no module yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import date, number, quantity, reference, string, token, uri
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

__all__ = ["KINDS", "Context", "Kind", "Maker", "Row"]
