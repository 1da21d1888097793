"""Mathematics.

https://hl7.org/fhirpath/N1/#math
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import Env, Item
from fhir_server.fhirpath.operators import in_range, single, type_name
from fhir_server.fhirpath.quantity import Quantity, comparable

from .signature import Function, Lambda

_MAX_DIGITS: Final = 28


def _number(env: Env, items: list[Item], name: str) -> int | Decimal | None:
    value = single(items, env, f"{name}()")
    if value is None or (isinstance(value, int | Decimal) and not isinstance(value, bool)):
        return value
    raise FhirPathError(f"{name}() takes a number, not {type_name(value)}")


def _math(name: str, call: Callable[..., int | Decimal], arguments: int = 0, least: int | None = None) -> Function:
    """A function of the input and further numbers; empty where one is missing or the result is no real number."""

    def run(env: Env, items: list[Item], *others: list[Item]) -> list[Item]:
        values = [_number(env, one, name) for one in (items, *others)]
        if None in values:
            return []
        try:
            return in_range(call(*values))
        except (decimal.DecimalException, OverflowError, ValueError):
            return []

    return Function(run, arguments if least is None else least, arguments)


def _abs(env: Env, items: list[Item]) -> list[Item]:
    value = single(items, env, "abs()")
    if isinstance(value, Quantity):
        return [Quantity(abs(value.value), value.unit)]
    number = _number(env, items, "abs")
    return [] if number is None else [abs(number)]


def _round(value: int | Decimal, digits: int | Decimal = 0) -> Decimal:
    if not 0 <= digits <= _MAX_DIGITS:
        raise FhirPathError(f"round() takes 0 to {_MAX_DIGITS} digits")
    return Decimal(value).quantize(Decimal(1).scaleb(-int(digits)), rounding=decimal.ROUND_HALF_UP)


def _power(value: int | Decimal, exponent: int | Decimal) -> int | Decimal:
    result: Decimal = Decimal(value) ** Decimal(exponent)
    whole = isinstance(value, int) and isinstance(exponent, int) and result == result.to_integral_value()
    return int(result) if whole and result.adjusted() < _MAX_DIGITS else result


def _comparable(env: Env, items: list[Item], other: list[Item]) -> list[Item]:
    ours, theirs = single(items, env, "comparable()"), single(other, env, "comparable()")
    if not isinstance(ours, Quantity) or not isinstance(theirs, Quantity):
        return []
    return [comparable(ours, theirs) is not None]


def _integral(rounding: str) -> Callable[[int | Decimal], int]:
    return lambda value: int(Decimal(value).to_integral_value(rounding=rounding))


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    "abs": Function(_abs),
    "ceiling": _math("ceiling", _integral(decimal.ROUND_CEILING)),
    "floor": _math("floor", _integral(decimal.ROUND_FLOOR)),
    "truncate": _math("truncate", _integral(decimal.ROUND_DOWN)),
    "round": _math("round", _round, 1, 0),
    "exp": _math("exp", lambda value: Decimal(value).exp()),
    "ln": _math("ln", lambda value: Decimal(value).ln()),
    "log": _math("log", lambda value, base: Decimal(value).ln() / Decimal(base).ln(), 1),
    "power": _math("power", _power, 1),
    "sqrt": _math("sqrt", lambda value: Decimal(value).sqrt()),
    "comparable": Function(_comparable, 1, 1),
}
