"""Number parameters: exact values in resources, values of a stated precision in queries.

https://hl7.org/fhir/R4/search.html#number, https://hl7.org/fhir/R4/search.html#prefix

Ends in rows are texts, such as `-1.5` and `Infinity`, which PostgreSQL reads as they are.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server.fhirjson import Number
from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from .kind import Context, Maker, Row

TABLE: Final = "sp_number"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("lo", "hi", "numeric")

MINUS_INFINITY: Final = "-Infinity"
INFINITY: Final = "Infinity"
_LITERAL: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?([+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)", re.ASCII)
EXACT: Final = decimal.Context(prec=500)
"""Numbers have at most 64 digits and exponents to ±200, so that every sum fits."""


class Bounds(NamedTuple):
    """A number of a query: the range that its digits stand for, `lo` included and `hi` not, and the number itself."""

    prefix: str
    lo: Decimal
    hi: Decimal
    value: Decimal


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (lo, hi), both included."""
    del element, context
    if fhir_type == "Range":
        return _range
    return _point if fhir_type in {"decimal", "integer", "positiveInt", "unsignedInt"} else None


def canonical(value: Any) -> str:
    """The one text of a JSON number's value, however it is written: rows that are equal must look equal."""
    text = str(EXACT.normalize(Decimal(value)))
    return "0" if text == "-0" else text


def _point(value: Any) -> tuple[Row, ...]:
    exact = canonical(value)
    return ((exact, exact),)


def _range(value: dict[str, Any]) -> tuple[Row, ...]:
    low, high = value.get("low", {}).get("value"), value.get("high", {}).get("value")
    if low is None and high is None:
        return ()
    return ((MINUS_INFINITY if low is None else canonical(low), INFINITY if high is None else canonical(high)),)


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Bounds:
    """A decimal with a prefix or none."""
    del modifier, targets, context
    return bounds(text)


def bounds(text: str) -> Bounds:
    """The number of a query. `100` is 99.5 to 100.5, `100.00` is 99.995 to 100.005 and, as the specification has it, `1e2` is 95 to 105.

    Raises ValueError for what is not a number.
    """
    found = _LITERAL.fullmatch(text)
    if found is None:
        raise ValueError(f"is no number such as 5.4, 1e2 or ge100: '{text[:80]}'")
    prefix = found[1] or "eq"
    try:
        value = Decimal(Number(found[2].removeprefix("+")))
    except ValueError:
        raise ValueError(f"is out of range, which ends at 64 digits and exponents of ±200: '{text[:80]}'") from None
    if prefix == "ap":
        margin = EXACT.divide(abs(value), Decimal(10))
    else:
        exponent = int(value.as_tuple().exponent)
        margin = Decimal((0, (5,), exponent - 1 if exponent <= 0 else exponent - 2))
    return Bounds(prefix, EXACT.subtract(value, margin), EXACT.add(value, margin), value)


def predicate(values: Sequence[Bounds], at: str) -> Statement:
    """Ranges of the indexes by either end."""
    return any_of(condition(value, at) for value in dict.fromkeys(values))


def condition(value: Bounds, at: str) -> Statement:
    """The condition on `lo` and `hi` for one value."""
    lo, hi = f"{at}lo", f"{at}hi"
    match value.prefix:
        case "eq":
            # That lo lies below the upper bound follows, but gives the index range its other end.
            return Statement(f"{lo} >= %s AND {lo} < %s AND {hi} < %s", (value.lo, value.hi, value.hi))
        case "ne":
            return Statement(f"({lo} < %s OR {hi} >= %s)", (value.lo, value.hi))
        case "ap":
            return Statement(f"{lo} <= %s AND {hi} >= %s", (value.hi, value.lo))
        case prefix:
            column, operator = _COMPARISONS[prefix]
            return Statement(f"{at}{column} {operator} %s", (value.value,))


_COMPARISONS: Final = {"gt": ("hi", ">"), "ge": ("hi", ">="), "lt": ("lo", "<"), "le": ("lo", "<="), "sa": ("lo", ">"), "eb": ("hi", "<")}


def ends(row: Row) -> tuple[Decimal, Decimal]:
    """Both ends as numbers."""
    return Decimal(row[0]), Decimal(row[1])


def matches(value: Bounds, row: Row) -> bool:  # noqa: PLR0911 - one per prefix
    """The row's range, its first two columns, stands to the value as the prefix says."""
    lo, hi = ends(row)
    match value.prefix:
        case "eq":
            return bool(value.lo <= lo < value.hi and hi < value.hi)
        case "ne":
            return bool(lo < value.lo or hi >= value.hi)
        case "gt":
            return bool(hi > value.value)
        case "ge":
            return bool(hi >= value.value)
        case "lt":
            return bool(lo < value.value)
        case "le":
            return bool(lo <= value.value)
        case "sa":
            return bool(lo > value.value)
        case "eb":
            return bool(hi < value.value)
        case _:
            return bool(lo <= value.hi and hi >= value.lo)
