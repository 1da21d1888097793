"""The functions by name. Each file has a table of its own; the compiler looks names up here."""

from __future__ import annotations

from typing import Final

from . import boundaries, collections, conversion, fhir, numbers, strings
from .signature import Function, Lambda

FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    **boundaries.FUNCTIONS,
    **collections.FUNCTIONS,
    **conversion.FUNCTIONS,
    **fhir.FUNCTIONS,
    **numbers.FUNCTIONS,
    **strings.FUNCTIONS,
}

__all__ = ["FUNCTIONS", "Function", "Lambda"]
