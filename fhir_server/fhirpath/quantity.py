"""Quantities: compared, added and multiplied with regard to their units.

https://hl7.org/fhirpath/N1/#quantity
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Final

from fhir_server import ucum
from fhir_server.ucum import Powers

CALENDAR: Final = {
    name + plural: name for name in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond") for plural in ("", "s")
}
"""Words for spans of time, each to its singular."""

_DEFINITE: Final = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
_FROM_UCUM: Final = {code: word for word, code in _DEFINITE.items()}
_MONTHS: Final = {"year": 12, "month": 1}
_ALMOST: Final = {"year": "a", "month": "mo"}

_COUNTED: Final = re.compile(r"1?(?:\{[^}]*\})?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its unit: a UCUM code, or a word of CALENDAR in the singular; `1` where there is none."""

    value: Decimal
    unit: str

    def __str__(self) -> str:
        unit = self.unit if self.unit in _DEFINITE or self.unit in _MONTHS else f"'{self.unit}'"
        return f"{self.value:f} {unit}"

    @property
    def calendar_unit(self) -> str | None:
        """The word for a span of time that can be added to a date; None for other units, years and months of UCUM (365.25 days) among them."""
        return CALENDAR.get(self.unit) or _FROM_UCUM.get(self.unit)


def comparable(left: Quantity, right: Quantity) -> tuple[Fraction, Fraction] | None:
    """Both amounts in one unit; None where the units do not measure the same."""
    if left.unit == right.unit:
        return Fraction(left.value), Fraction(right.value)
    months = _MONTHS.get(left.unit), _MONTHS.get(right.unit)
    if months[0] or months[1]:
        return (Fraction(left.value) * months[0], Fraction(right.value) * months[1]) if months[0] and months[1] else None
    ours, theirs = _measure(left), _measure(right)
    if ours is None or theirs is None or ours[1] != theirs[1]:
        return None
    return ours[0], theirs[0]


def equivalent(left: Quantity, right: Quantity) -> bool:
    """Whether both are the same when rounded as coarsely as the coarser of them is written; a year is also about one `a`."""
    left, right = (Quantity(q.value, _ALMOST.get(q.unit, q.unit)) if left.unit != right.unit else q for q in (left, right))
    amounts = comparable(left, right)
    if amounts is None:
        return False
    steps = [
        abs(amount / Fraction(q.value)) * Fraction(10) ** _exponent(q.value) for amount, q in zip(amounts, (left, right), strict=True) if q.value
    ]
    if not steps:
        return amounts[0] == amounts[1]
    return round(amounts[0] / max(steps)) == round(amounts[1] / max(steps))


def combine(left: Quantity, right: Quantity, *, divide: bool) -> Quantity | None:
    """The product or quotient, in base units unless one side is a plain number. None for units that cannot be multiplied, and for ÷ 0."""
    if divide and not right.value:
        return None
    if _COUNTED.fullmatch(right.unit):
        return Quantity(left.value / right.value if divide else left.value * right.value, left.unit)
    ours, theirs = _measure(left), _measure(right)
    if ours is None or theirs is None:
        return None
    powers = dict(ours[1])
    for base, power in theirs[1]:
        powers[base] = powers.get(base, 0) + (-power if divide else power)
    amount = ours[0] / theirs[0] if divide else ours[0] * theirs[0]
    unit = ".".join(base if power == 1 else f"{base}{power}" for base, power in sorted(powers.items()) if power)
    return Quantity(_decimal(amount), unit or "1")


def add(left: Quantity, right: Quantity) -> Quantity | None:
    """The sum in the unit of the left side; None where the units do not measure the same."""
    if left.unit == right.unit:
        return Quantity(left.value + right.value, left.unit)
    amounts = comparable(left, right)
    one = comparable(Quantity(Decimal(1), left.unit), right)
    if amounts is None or one is None or not _from_zero(left.unit):
        return None
    return Quantity(left.value + _decimal(amounts[1] / one[0]), left.unit)


def normal(quantity: Quantity) -> tuple[Fraction, Powers | str]:
    """Amount and base units: the same for quantities that are equal."""
    if quantity.unit in _MONTHS:
        return Fraction(quantity.value) * _MONTHS[quantity.unit], "month"
    return _measure(quantity) or (Fraction(quantity.value), quantity.unit)


def _measure(quantity: Quantity) -> tuple[Fraction, Powers] | None:
    known = ucum.unit(_DEFINITE.get(quantity.unit, quantity.unit) or "1")
    return None if known is None else (Fraction(quantity.value) * known.factor + known.offset, known.powers)


def _from_zero(unit: str) -> bool:
    """Whether nothing of a unit is nothing: sums of degrees Celsius mean nothing."""
    known = ucum.unit(unit)
    return known is None or not known.offset


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return min(exponent, 0) if isinstance(exponent, int) else 0


def _decimal(amount: Fraction) -> Decimal:
    with localcontext(prec=28):
        return Decimal(amount.numerator) / Decimal(amount.denominator)
