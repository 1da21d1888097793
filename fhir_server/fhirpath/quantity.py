"""Quantities, and as much of UCUM as it takes to compare and multiply them.

https://hl7.org/fhirpath/N1/#quantity, https://ucum.org/ucum
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import Final

CALENDAR: Final = {
    name + plural: name for name in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond") for plural in ("", "s")
}
"""Words for spans of time, each to its singular."""

_DEFINITE: Final = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
_FROM_UCUM: Final = {code: word for word, code in _DEFINITE.items()}
_MONTHS: Final = {"year": 12, "month": 1}
_ALMOST: Final = {"year": "a", "month": "mo"}

Dimensions = tuple[tuple[str, int], ...]

_PREFIXES: Final = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24,
}  # fmt: skip
_BASE: Final = {"m", "s", "g", "rad", "K", "C", "cd", "mol"}
_METRIC: Final = {
    "L": "1 dm3", "l": "1 dm3", "Hz": "1 /s", "N": "1 kg.m/s2", "Pa": "1 N/m2", "J": "1 N.m", "W": "1 J/s", "A": "1 C/s", "V": "1 J/C",
    "F": "1 C/V", "Ohm": "1 V/A", "S": "1 /Ohm", "Wb": "1 V.s", "T": "1 Wb/m2", "H": "1 Wb/A", "Bq": "1 /s", "Gy": "1 J/kg", "Sv": "1 J/kg",
    "kat": "1 mol/s", "U": "1/60000000 mol/s", "eq": "1 mol", "osm": "1 mol", "bar": "100000 Pa", "cal": "4.184 J", "t": "1000 kg",
    "m[H2O]": "9806.65 Pa", "m[Hg]": "133322 Pa", "Ci": "37000000000 Bq", "sr": "1 rad2", "lm": "1 cd.sr", "lx": "1 lm/m2", "eV": "1.602176634e-19 J",
    "[IU]": "1 [iU]", "st": "1 m3", "ar": "100 m2", "dyn": "0.00001 N", "erg": "0.0000001 J", "P": "0.1 Pa.s",
}  # fmt: skip
_OTHER: Final = {
    "min": "60 s", "h": "3600 s", "d": "86400 s", "wk": "604800 s", "a": "31557600 s", "mo": "2629800 s", "%": "1/100 1", "[ppth]": "1/1000 1",
    "[ppm]": "1/1000000 1", "[in_i]": "2.54 cm", "[ft_i]": "30.48 cm", "[yd_i]": "91.44 cm", "[mi_i]": "1609.344 m", "[lb_av]": "453.59237 g",
    "[oz_av]": "28.349523125 g", "[gr]": "0.06479891 g", "[stone_av]": "6350.29318 g", "deg": "0.0174532925199432957692 rad", "atm": "101325 Pa",
    "[in_i'Hg]": "3386.3788 Pa", "[psi]": "6894.757293168 Pa", "[foz_us]": "29.5735295625 mL", "[cup_us]": "236.5882365 mL",
    "[pt_us]": "473.176473 mL", "[qt_us]": "946.352946 mL", "[gal_us]": "3785.411784 mL", "[tsp_us]": "4.92892159375 mL",
    "[tbs_us]": "14.78676478125 mL", "[drp]": "0.05 mL", "[Cal]": "4184 J", "[sin_i]": "6.4516 cm2", "[cin_i]": "16.387064 cm3",
}  # fmt: skip
_TEMPERATURES: Final = {"Cel": (Fraction(1), Fraction("273.15")), "[degF]": (Fraction(5, 9), Fraction("459.67") * 5 / 9)}
_TERM: Final = re.compile(r"\{[^}]*\}|[./()]|10[*^][+-]?\d{1,2}|\d+|(?:\[[^\]]*\]|[A-Za-z%'_*])+(?:\[[^\]]*\])?|[+-]\d+", re.ASCII)
_MAX_CODE: Final = 100
_MAX_EXPONENT: Final = 30
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


@lru_cache(maxsize=4096)
def canonical(unit: str) -> tuple[Fraction, Dimensions] | None:
    """Factor and base units of a UCUM code: `cm` is (1/100, (("m", 1),)). None for units that are unknown or not multiplicative."""
    if len(unit) > _MAX_CODE:
        return None
    if _COUNTED.fullmatch(unit):
        return Fraction(1), ()
    return _Units(unit).whole()


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
    if amounts is None or one is None or left.unit in _TEMPERATURES:
        return None
    return Quantity(left.value + _decimal(amounts[1] / one[0]), left.unit)


def normal(quantity: Quantity) -> tuple[Fraction, Dimensions | str]:
    """Amount and base units: the same for quantities that are equal."""
    if quantity.unit in _MONTHS:
        return Fraction(quantity.value) * _MONTHS[quantity.unit], "month"
    return _measure(quantity) or (Fraction(quantity.value), quantity.unit)


def _measure(quantity: Quantity) -> tuple[Fraction, Dimensions] | None:
    unit = _DEFINITE.get(quantity.unit, quantity.unit)
    if unit in _TEMPERATURES:
        factor, offset = _TEMPERATURES[unit]
        return Fraction(quantity.value) * factor + offset, (("K", 1),)
    known = canonical(unit)
    return None if known is None else (Fraction(quantity.value) * known[0], known[1])


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return min(exponent, 0) if isinstance(exponent, int) else 0


def _decimal(amount: Fraction) -> Decimal:
    with localcontext(prec=28):
        return Decimal(amount.numerator) / Decimal(amount.denominator)


class _Units:
    """A reader of one UCUM term: atoms joined by `.` and `/`, with exponents, parentheses and annotations."""

    def __init__(self, code: str) -> None:
        self.tokens = _TERM.findall(code)
        self.complete = "".join(self.tokens) == code
        self.at = 0

    def whole(self) -> tuple[Fraction, Dimensions] | None:
        if not self.complete:
            return None
        found = self.term()
        if found is None or self.at != len(self.tokens):
            return None
        return found[0], tuple(sorted((base, power) for base, power in found[1].items() if power))

    def term(self) -> tuple[Fraction, dict[str, int]] | None:
        factor, powers = Fraction(1), dict[str, int]()
        sign = 1
        if self.peek() == "/":
            self.at += 1
            sign = -1
        while True:
            part = self.component()
            if part is None or any(abs(power) > _MAX_EXPONENT for power in part[1].values()):
                return None
            factor *= part[0] ** sign
            for base, power in part[1].items():
                powers[base] = powers.get(base, 0) + sign * power
            if self.peek() not in {".", "/"}:
                return factor, powers
            sign = 1 if self.peek() == "." else -1
            self.at += 1

    def component(self) -> tuple[Fraction, dict[str, int]] | None:  # noqa: PLR0911 - one for each kind of component
        token = self.peek()
        self.at += 1
        if token.startswith("("):
            found = self.term()
            if found is None or self.peek() != ")":
                return None
            self.at += 1
        elif token.startswith("{"):
            return Fraction(1), {}
        elif token[:3] in {"10*", "10^"}:
            return Fraction(10) ** int(token[3:]), {}
        elif token.isdigit():
            number = Fraction(int(token))
            return (number, {}) if number else None
        else:
            found = _atom(token)
            if found is None:
                return None
        power = self.exponent()
        if self.peek().startswith("{"):
            self.at += 1
        if not 0 < abs(power) <= _MAX_EXPONENT:
            return None
        return found[0] ** power, {base: size * power for base, size in found[1].items()}

    def exponent(self) -> int:
        token = self.peek()
        if re.fullmatch(r"[+-]?\d{1,3}", token):
            self.at += 1
            return int(token)
        return 1

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""


def _atom(symbol: str) -> tuple[Fraction, dict[str, int]] | None:
    if symbol in _BASE or symbol == "[iU]":
        return Fraction(1), {symbol: 1}
    definition = _METRIC.get(symbol) or _OTHER.get(symbol)
    if definition is not None:
        factor, _, unit = definition.partition(" ")
        found = canonical(unit)
        assert found is not None
        return Fraction(factor) * found[0], dict(found[1])
    for size in (1, 2):
        prefix, rest = symbol[:size], symbol[size:]
        if prefix in _PREFIXES and (rest in _BASE or rest in _METRIC):
            found_atom = _atom(rest)
            assert found_atom is not None
            return found_atom[0] * Fraction(10) ** _PREFIXES[prefix], found_atom[1]
    return None
