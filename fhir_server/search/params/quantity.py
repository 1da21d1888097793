"""Quantity parameters: numbers with a unit, by its code or by how it is written.

https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from . import number, token
from .kind import Context, Maker, Row, capped, split, unescape

TABLE: Final = "sp_quantity"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("lo", "hi", "numeric")

_CURRENCY: Final = "urn:iso:std:iso:4217"


class Amount(NamedTuple):
    """A number; `system` None for a unit of any system; `unit` None for any unit."""

    bounds: number.Bounds
    system: str | None
    unit: str | None


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (lo, hi, system URL or empty, code, unit), both ends included."""
    del element
    if context.spec.is_a(fhir_type, "Quantity"):
        return _quantity
    return {"Range": _range, "Money": _money, "SampledData": _samples}.get(fhir_type)


def _unit(value: dict[str, Any]) -> Row:
    return value.get("system", ""), capped(value.get("code", "")), capped(value.get("unit", "")), None, None, None


def _quantity(value: dict[str, Any]) -> Iterator[Row]:
    if "value" in value:
        exact, comparator = number.canonical(value["value"]), value.get("comparator", "")
        lo = number.MINUS_INFINITY if comparator.startswith("<") else exact
        hi = number.INFINITY if comparator.startswith(">") else exact
        yield lo, hi, *_unit(value)


def _range(value: dict[str, Any]) -> Iterator[Row]:
    low, high = value.get("low", {}), value.get("high", {})
    if "value" in low or "value" in high:
        lo = number.canonical(low["value"]) if "value" in low else number.MINUS_INFINITY
        hi = number.canonical(high["value"]) if "value" in high else number.INFINITY
        yield lo, hi, *_unit(low if "value" in low else high)


def _money(value: dict[str, Any]) -> Iterator[Row]:
    if "value" in value:
        exact, currency = number.canonical(value["value"]), value.get("currency", "")
        yield exact, exact, _CURRENCY if currency else "", currency, currency, None, None, None


def _samples(value: dict[str, Any]) -> Iterator[Row]:
    """From the least to the greatest sample; the letters U and L stand for values beyond the device's limits."""
    samples = [sample for sample in value.get("data", "").split(" ") if sample and sample not in "EUL"]
    origin = value.get("origin", {})
    try:
        numbers = [float(sample) for sample in samples]
        factor, zero = float(value.get("factor", 1)), float(origin.get("value", 0))
    except ValueError:
        return
    if numbers:
        scaled = sorted(Decimal(repr(round(zero + factor * end, 9))) for end in (min(numbers), max(numbers)))
        if all(end.is_finite() for end in scaled):
            yield number.canonical(scaled[0]), number.canonical(scaled[1]), *_unit(origin)


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Amount:
    """`number`, `number|system|code` or `number||unit`."""
    del modifier, targets, context
    digits, *rest = split(text, "|")
    if len(rest) not in (0, 2):
        raise ValueError("is neither [number] nor [number]|[system]|[code]")
    system, unit = (unescape(rest[0]) or None, capped(unescape(rest[1])) or None) if rest else (None, None)
    return Amount(number.bounds(digits), system, unit)


def predicate(values: Sequence[Amount], at: str) -> Statement:
    """A range of the index by number; the unit filters what it holds."""
    return any_of(_condition(value, at) for value in dict.fromkeys(values))


def _condition(value: Amount, at: str) -> Statement:
    condition = number.condition(value.bounds, at)
    if value.system is not None:
        condition = condition.and_(token.in_system(value.system, at))
        if value.unit is not None:
            condition = condition.and_(Statement(f"{at}code = %s", (value.unit,)))
    elif value.unit is not None:
        condition = condition.and_(Statement(f"({at}code = %s OR {at}unit = %s)", (value.unit, value.unit)))
    return condition


def ends(row: Row) -> tuple[Decimal, Decimal]:
    """Both ends as numbers, whatever the unit."""
    return number.ends(row)


def matches(value: Amount, row: Row) -> bool:
    """Number and unit agree."""
    system, code, unit = row[2:5]
    if value.system is not None:
        same = system == value.system and (value.unit is None or code == value.unit)
    else:
        same = value.unit is None or value.unit in (code, unit)
    return bool(same and number.matches(value.bounds, row))
