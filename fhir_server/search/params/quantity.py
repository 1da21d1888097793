"""Quantity parameters: numbers with a unit, by what it measures where UCUM has it, else by its code or by how it is written.

https://hl7.org/fhir/R4/search.html#quantity, https://ucum.org/ucum

A row holds its numbers as they stand and, for UCUM units, also in base units with the dimension: `1|http://unitsofmeasure.org|g` finds 1000 mg.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fhir_server import ucum
from fhir_server.fhirjson import Number
from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from . import number, token
from .kind import Context, Maker, Row, capped, split, unescape

TABLE: Final = "sp_quantity"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("lo", "hi", "numeric")

UCUM: Final = "http://unitsofmeasure.org"
_CURRENCY: Final = "urn:iso:std:iso:4217"
_NO_MEASURE: Final = (None, None, None)
_SHORT: Final = 200
"""Characters of a unit that is kept with what becomes of it."""


class Measure(NamedTuple):
    """The number in base units, and what they are."""

    dimension: str
    bounds: number.Bounds


class Amount(NamedTuple):
    """A number; `system` None for a unit of any system; `unit` None for any unit; `measure` where the unit is one of UCUM, which then decides."""

    bounds: number.Bounds
    system: str | None
    unit: str | None
    measure: Measure | None = None


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (lo, hi, system URL or empty, code, unit, dimension, lo and hi in base units), both ends included; the last three None without UCUM."""
    del element
    if context.spec.is_a(fhir_type, "Quantity"):
        return _quantity
    return {"Range": _range, "Money": _money, "SampledData": _samples}.get(fhir_type)


def _unit(value: dict[str, Any]) -> Row:
    return value.get("system", ""), capped(value.get("code", "")), capped(value.get("unit", ""))


def _in_base_units(amount: Any, unit: dict[str, Any]) -> tuple[str, str] | None:
    """Dimension and amount; None where UCUM does not have the unit. Whoever names the system but no code means the unit as a code."""
    if unit.get("system") != UCUM:
        return None
    code = unit.get("code") or unit.get("unit", "")
    return _converted(amount, code) if len(code) <= ucum.MAX_CODE else None


def _converted(amount: Any, code: str) -> tuple[str, str] | None:
    found = ucum.canonical(Decimal(amount), code)
    return found and (found[0], number.canonical(found[1]))


def _quantity(value: dict[str, Any]) -> tuple[Row, ...]:
    if "value" not in value:
        return ()
    amount, comparator = value["value"], value.get("comparator")
    system, code, unit = value.get("system", ""), value.get("code", ""), value.get("unit", "")
    made = _known if len(system) + len(code) + len(unit) <= _SHORT else _made
    return made(amount, comparator, system, code, unit)


def _made(amount: Any, comparator: str | None, system: str, code: str, unit: str) -> tuple[Row, ...]:
    exact = number.canonical(amount)
    found = _in_base_units(amount, {"system": system, "code": code, "unit": unit})
    dimension, base = (None, None) if found is None else found
    unit_columns = system, capped(code), capped(unit)
    if comparator is None:
        return ((exact, exact, *unit_columns, dimension, base, base),)
    below, above = comparator.startswith("<"), comparator.startswith(">")
    lo, hi = number.MINUS_INFINITY if below else exact, number.INFINITY if above else exact
    ends = (None, None) if base is None else (number.MINUS_INFINITY if below else base, number.INFINITY if above else base)
    return ((lo, hi, *unit_columns, dimension, *ends),)


# Every parameter that has it as a part asks for the same value, and many resources have the same.
_known: Final = lru_cache(maxsize=8192)(_made)


def _range(value: dict[str, Any]) -> tuple[Row, ...]:
    low, high = value.get("low", {}), value.get("high", {})
    if "value" not in low and "value" not in high:
        return ()
    lo = number.canonical(low["value"]) if "value" in low else number.MINUS_INFINITY
    hi = number.canonical(high["value"]) if "value" in high else number.INFINITY
    return ((lo, hi, *_unit(low if "value" in low else high), *_between(low, high)),)


def _between(low: dict[str, Any], high: dict[str, Any]) -> Row:
    """Dimension and ends in base units of two quantities, one of which may be open; nothing where they do not measure the same."""
    found = [_in_base_units(end["value"], end) if "value" in end else ("", open_end) for end, open_end in zip((low, high), _OPEN, strict=True)]
    if None in found:
        return _NO_MEASURE
    (dimension, lo), (other, hi) = (end for end in found if end is not None)
    return (dimension or other, lo, hi) if dimension == other or not (dimension and other) else _NO_MEASURE


_OPEN: Final = (number.MINUS_INFINITY, number.INFINITY)


def _money(value: dict[str, Any]) -> tuple[Row, ...]:
    if "value" not in value:
        return ()
    exact, currency = number.canonical(value["value"]), value.get("currency", "")
    return ((exact, exact, _CURRENCY if currency else "", currency, currency, *_NO_MEASURE),)


def _samples(value: dict[str, Any]) -> tuple[Row, ...]:
    """From the least to the greatest sample; the letters E, U and L stand for errors and for values beyond the device's limits."""
    samples = [sample for sample in value.get("data", "").split(" ") if sample and sample not in "EUL"]
    origin = value.get("origin", {})
    try:
        ends = [Number(end) for end in (min(samples, key=float), max(samples, key=float))] if samples else []
    except (ValueError, ArithmeticError):
        return ()
    if not ends or not all(end.is_finite() for end in ends):
        return ()
    factor, zero = Decimal(value.get("factor", 1)), Decimal(origin.get("value", 0))
    scaled = sorted(number.EXACT.fma(end, factor, zero) for end in ends)
    lo, hi = ({**origin, "value": end} for end in scaled)
    return ((number.canonical(scaled[0]), number.canonical(scaled[1]), *_unit(origin), *_between(lo, hi)),)


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Amount:
    """`number`, `number|system|code` or `number||unit`, with a prefix or none."""
    del modifier, targets, context
    digits, *rest = split(text, "|")
    if len(rest) not in (0, 2):
        raise ValueError(f"is neither [number] nor [number]|[system]|[code] nor [number]||[unit]: '{text[:80]}'")
    bounds = number.bounds(digits)
    system, unit = (unescape(rest[0]) or None, unescape(rest[1]) or None) if rest else (None, None)
    measure = _measure(bounds, unit) if system == UCUM and unit is not None else None
    return Amount(bounds, system and capped(system), unit and capped(unit), measure)


def _measure(bounds: number.Bounds, unit: str) -> Measure | None:
    """The range that the digits stand for, end by end in base units: 0.5 g to 1.5 g for `1` g, however exact a gram is in them."""
    prefix, *ends = bounds
    found = [ucum.canonical(end, unit) for end in ends]
    amounts = [end[1] for end in found if end is not None]
    return Measure(found[0][0], number.Bounds(prefix, *amounts)) if found[0] is not None else None


def predicate(values: Sequence[Amount], at: str) -> Statement:
    """A range of the index by dimension and number in base units, or by number as written; the unit then filters what it holds."""
    return any_of(_condition(value, at) for value in dict.fromkeys(values))


def _condition(value: Amount, at: str) -> Statement:
    if value.measure is not None:
        return Statement(f"{at}dimension = %s", (value.measure.dimension,)).and_(number.condition(value.measure.bounds, f"{at}canonical_"))
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
    system, code, unit, dimension = row[2:6]
    if value.measure is not None:
        return bool(dimension == value.measure.dimension and number.matches(value.measure.bounds, row[6:8]))
    if value.system is not None:
        same = system == value.system and (value.unit is None or code == value.unit)
    else:
        same = value.unit is None or value.unit in (code, unit)
    return bool(same and number.matches(value.bounds, row))
