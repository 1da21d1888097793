"""The least and the greatest value that a value of its precision may stand for.

https://hl7.org/fhirpath/#lowboundaryprecision-integer-decimal--date--datetime--time
"""

from __future__ import annotations

import decimal
from calendar import monthrange
from decimal import Decimal
from typing import Final

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import Env, Item
from fhir_server.fhirpath.operators import single, type_name
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Kind, Temporal

from .collections import integer
from .signature import Function, Lambda

_DEFAULT_DIGITS: Final = 8
_MOST_DIGITS: Final = 28
_DEFAULTS: Final[dict[Kind, int]] = {"Date": 8, "DateTime": 17, "Time": 9}
_PARTS: Final[dict[Kind, tuple[int, ...]]] = {"Date": (4, 6, 8), "DateTime": (4, 6, 8, 10, 12, 14, 17), "Time": (2, 4, 6, 9)}
"""Digits written up to each part: `20140105103000000` has 17."""

_LOWEST: Final = ("01", "01", "00", "00", "00", "000")
_HIGHEST: Final = ("12", "31", "23", "59", "59", "999")
_EARLIEST_ZONE: Final = "+14:00"
_LATEST_ZONE: Final = "-12:00"
_DAY_DIGITS: Final = 8


def _boundary(env: Env, items: list[Item], digits: list[Item] | None, *, high: bool) -> list[Item]:
    name = "highBoundary()" if high else "lowBoundary()"
    value = single(items, env, name)
    count = None if digits is None else integer(env, digits, name)
    result: Item | None
    match value:
        case None:
            return []
        case Temporal():
            result = _of_time(value, _DEFAULTS[value.kind] if count is None else count, high=high)
        case Quantity():
            number = _of_number(value.value, _DEFAULT_DIGITS if count is None else count, high=high)
            result = None if number is None else Quantity(number, value.unit)
        case int() | Decimal() if not isinstance(value, bool):
            result = _of_number(Decimal(value), _DEFAULT_DIGITS if count is None else count, high=high)
        case _:
            raise FhirPathError(f"{name} does not fit {type_name(value)}")
    return [] if result is None else [result]


def _of_number(value: Decimal, digits: int, *, high: bool) -> Decimal | None:
    exponent = value.as_tuple().exponent
    if not 0 <= digits <= _MOST_DIGITS or not isinstance(exponent, int):
        return None
    half = Decimal(5).scaleb(min(exponent, 0) - 1)
    # The suite rounds the boundary nearer to zero towards it, and the other one to the nearest.
    inward = (value < 0) == high
    try:
        return (value + half if high else value - half).quantize(
            Decimal(1).scaleb(-digits), rounding=decimal.ROUND_DOWN if inward else decimal.ROUND_HALF_UP
        )
    except decimal.InvalidOperation:
        return None


def _of_time(value: Temporal, digits: int, *, high: bool) -> Temporal | None:
    widths = _PARTS[value.kind]
    if digits not in widths:
        return None
    wanted = widths.index(digits) + 1
    known = _fields(value)
    limits = _HIGHEST if high else _LOWEST
    offset = 2 if value.kind == "Time" else -1
    parts = list(known)
    while len(parts) < wanted:
        at = len(parts)
        last_day = high and value.kind != "Time" and at == 2  # noqa: PLR2004 - the day
        parts.append(f"{monthrange(int(parts[0]), int(parts[1]))[1]:02}" if last_day else limits[at + offset])
    return Temporal.read(value.kind, _written(value, parts[:wanted], digits, high=high))


def _fields(value: Temporal) -> list[str]:
    """The parts as they are written, milliseconds apart from the seconds."""
    text = value.text.removesuffix(value.suffix) if value.suffix else value.text
    day, _, clock = text.partition("T") if value.kind != "Time" else ("", "", text)
    seconds, dot, fraction = clock.partition(".")
    return [part for part in (*day.split("-"), *seconds.split(":")) if part] + ([fraction[:3].ljust(3, "0")] if dot else [])


def _written(value: Temporal, parts: list[str], digits: int, *, high: bool) -> str:
    days = 0 if value.kind == "Time" else 3
    day, clock = "-".join(parts[:days]), ":".join(parts[days : days + 3])
    if len(parts) > days + 3:
        clock += "." + parts[-1]
    zone = ""
    if value.kind == "DateTime" and digits > _DAY_DIGITS:
        zone = value.suffix or (_LATEST_ZONE if high else _EARLIEST_ZONE)
    return f"{day}T{clock}{zone}" if day and clock else day or clock


def _precision(env: Env, items: list[Item]) -> list[Item]:
    value = single(items, env, "precision()")
    match value:
        case None:
            return []
        case Temporal():
            return [_PARTS[value.kind][len(_fields(value)) - 1]]
        case int() | Decimal() if not isinstance(value, bool):
            exponent = Decimal(value).as_tuple().exponent
            return [max(-exponent, 0) if isinstance(exponent, int) else 0]
    raise FhirPathError(f"precision() does not fit {type_name(value)}")


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    "lowBoundary": Function(lambda env, items, digits=None: _boundary(env, items, digits, high=False), 0, 1),
    "highBoundary": Function(lambda env, items, digits=None: _boundary(env, items, digits, high=True), 0, 1),
    "precision": Function(_precision),
}
