"""Conversions between System types.

https://hl7.org/fhirpath/N1/#conversion
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from fhir_server.fhirpath.model import Env, Item
from fhir_server.fhirpath.operators import in_range, single
from fhir_server.fhirpath.quantity import CALENDAR, Quantity, comparable
from fhir_server.fhirpath.temporal import Kind, Temporal

from .signature import Function, Lambda

_TRUE: Final = {"true", "t", "yes", "y", "1", "1.0"}
_FALSE: Final = {"false", "f", "no", "n", "0", "0.0"}
_INTEGER: Final = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?\d{1,64}(?:\.\d{1,64})?", re.ASCII)
_QUANTITY: Final = re.compile(r"([+-]?\d{1,64}(?:\.\d{1,64})?)(?:\s*'([^']{1,100})'|\s+([a-z]+))?", re.ASCII)


def to_boolean(value: Item) -> bool | None:
    """The boolean that a value stands for, None where it stands for none."""
    match value:
        case bool():
            return value
        case int() | Decimal():
            return {0: False, 1: True}.get(int(value)) if value == int(value) else None
        case str():
            low = value.lower()
            return True if low in _TRUE else False if low in _FALSE else None
    return None


def to_integer(value: Item) -> int | None:
    """The integer that a value stands for."""
    match value:
        case bool() | int():
            return int(value)
        case str() if _INTEGER.fullmatch(value):
            return next(iter(in_range(int(value))), None)
    return None


def to_decimal(value: Item) -> Decimal | None:
    """The decimal that a value stands for."""
    match value:
        case bool() | int() | Decimal():
            return Decimal(value)
        case str() if _DECIMAL.fullmatch(value):
            return Decimal(value)
    return None


def to_string(value: Item) -> str | None:
    """The value as text, None for what has none."""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case str() | int() | Temporal() | Quantity():
            return str(value)
    return None


def to_quantity(value: Item) -> Quantity | None:
    """The quantity that a value stands for; numbers and booleans have no unit."""
    match value:
        case Quantity():
            return value
        case bool() | int() | Decimal():
            return Quantity(Decimal(value), "1")
        case str():
            match = _QUANTITY.fullmatch(value)
            if match is None or (match[3] and match[3] not in CALENDAR):
                return None
            return Quantity(Decimal(match[1]), CALENDAR[match[3]] if match[3] else match[2] or "1")
    return None


def _to_temporal(kind: Kind) -> Callable[[Item], Temporal | None]:
    def convert(value: Item) -> Temporal | None:
        if isinstance(value, str):
            return Temporal.read(kind, value)
        if isinstance(value, Temporal) and "Time" not in {value.kind, kind}:
            return value.to(kind)
        return value if isinstance(value, Temporal) and value.kind == kind else None

    return convert


def _pair(name: str, convert: Callable[[Item], Item]) -> dict[str, Function | Lambda]:
    """`toX` and `convertsToX`."""

    def run(env: Env, items: list[Item]) -> list[Item]:
        value = single(items, env, f"to{name}()")
        result = None if value is None else convert(value)
        return [] if result is None else [result]

    def test(env: Env, items: list[Item]) -> list[Item]:
        value = single(items, env, f"convertsTo{name}()")
        return [] if value is None else [convert(value) is not None]

    return {f"to{name}": Function(run), f"convertsTo{name}": Function(test)}


def _quantity(env: Env, items: list[Item], unit: list[Item] | None = None) -> list[Item]:
    value = single(items, env, "toQuantity()")
    found = None if value is None else to_quantity(value)
    wanted = None if unit is None else single(unit, env, "toQuantity()")
    if found is None or not isinstance(wanted, str):
        return [] if found is None else [found]
    target = Quantity(Decimal(1), CALENDAR.get(wanted, wanted))
    amounts = comparable(found, target)
    if amounts is None or not amounts[1]:
        return []
    ratio = amounts[0] / amounts[1]
    return [Quantity(Decimal(ratio.numerator) / Decimal(ratio.denominator), target.unit)]


def _converts_to_quantity(env: Env, items: list[Item], unit: list[Item] | None = None) -> list[Item]:
    return [bool(_quantity(env, items, unit))] if items else []


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    **_pair("Boolean", to_boolean),
    **_pair("Integer", to_integer),
    **_pair("Decimal", to_decimal),
    **_pair("String", to_string),
    **_pair("Date", _to_temporal("Date")),
    **_pair("DateTime", _to_temporal("DateTime")),
    **_pair("Time", _to_temporal("Time")),
    "toQuantity": Function(_quantity, 0, 1),
    "convertsToQuantity": Function(_converts_to_quantity, 0, 1),
}
