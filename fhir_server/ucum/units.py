"""UCUM codes read by the grammar, and amounts in base units.

https://ucum.org/ucum#section-Syntax-Rules
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from .atoms import ARBITRARY, BASE, METRIC, PLAIN, PREFIXES, TEMPERATURES

_TOKEN: Final = re.compile(
    r"(?P<unit>10[*^]|(?:[A-Za-z%'_]|\[[!-Z^-z|~]+\])+)(?P<exponent>[+-]?[0-9]{1,3})?|(?P<number>[0-9]{1,20})|(?P<annotation>\{[ -z|~]*\})|[./()]"
)
MAX_CODE: Final = 200
"""Characters of a code; longer ones are none."""
_MAX_BITS: Final = 1024
"""Of a factor's numerator and denominator: 10 to the power of 300."""
_MAX_POWER: Final = 30
_ARBITRARY_METRIC: Final = "[iU]"
_ROUNDED: Final = decimal.Context(prec=18, rounding=decimal.ROUND_HALF_EVEN)
# Values of 64 digits with exponents to ±200, times any factor.
_EXACT: Final = decimal.Context(prec=2000, Emin=-9999, Emax=9999)

Powers = tuple[tuple[str, int], ...]


class Unit(NamedTuple):
    """An amount of a unit in base units is `amount * factor + offset`.

    `powers` are the base units with their exponents, by name, and `dimension` is the same as one text, `g.m-3`, `1` for numbers. `scale` is the
    factor as a decimal, None where one of the two has no end; `zero` is the offset then.
    """

    factor: Fraction
    offset: Fraction
    powers: Powers
    dimension: str
    scale: Decimal | None
    zero: Decimal


class _Part(NamedTuple):
    factor: Fraction
    powers: dict[str, int]


def unit(code: str) -> Unit | None:
    """What a UCUM code means; None for what UCUM does not have, for scales without a factor such as `[pH]` and `dB`, and for factors beyond 10^300.

    Annotations mean nothing: `{beats}/min` is `/min`. Costs about 10 µs the first time.
    """
    # Before the cache, which must not keep long texts.
    return _read(code) if 0 < len(code) <= MAX_CODE else None


@lru_cache(maxsize=4096)
def _read(code: str) -> Unit | None:
    scale = TEMPERATURES.get(code.partition("{")[0]) if code.isascii() else None
    if scale is not None:
        return _unit(_Part(Fraction(scale[0]), {"K": 1}), Fraction(scale[1])) if _annotated(code) else None
    part = _Reader(code).whole()
    return None if part is None else _unit(part, Fraction(0))


def canonical(value: Decimal, code: str) -> tuple[str, Decimal] | None:
    """Dimension and amount in base units: the same pair for any two quantities that are equal. None as for `unit`.

    The amount is exact; one that has no end in decimals (1 `[Ch]` is a third of a millimetre) is rounded to 18 significant digits, after the exact
    multiplication, so that equal quantities are rounded alike. `value` must be finite. Costs about 1 µs.
    """
    known = unit(code)
    if known is None:
        return None
    if known.scale is not None:
        return known.dimension, _EXACT.fma(value, known.scale, known.zero)
    return known.dimension, _decimal(Fraction(value) * known.factor + known.offset)


def _unit(part: _Part, offset: Fraction) -> Unit:
    powers = tuple(sorted((base, power) for base, power in part.powers.items() if power))
    dimension = ".".join(base if power == 1 else f"{base}{power}" for base, power in powers) or "1"
    scale = _decimal(part.factor) if _ends(part.factor) and _ends(offset) else None
    return Unit(part.factor, offset, powers, dimension, scale, _decimal(offset))


def _ends(amount: Fraction) -> bool:
    """Whether decimals can write it out."""
    rest = amount.denominator
    # Beyond the powers of two, every 5 takes more than two bits.
    rest //= rest & -rest
    return pow(5, rest.bit_length() // 2 + 1, rest) == 0


def _decimal(amount: Fraction) -> Decimal:
    context = _EXACT if _ends(amount) else _ROUNDED
    return context.divide(Decimal(amount.numerator), Decimal(amount.denominator))


def _annotated(code: str) -> bool:
    """Whether nothing but one annotation follows the atom."""
    tokens = [found.lastgroup for found in _TOKEN.finditer(code)]
    return tokens in (["unit"], ["unit", "annotation"]) and sum(len(found[0]) for found in _TOKEN.finditer(code)) == len(code)


class _Reader:
    """Reads one term from left to right; every method gives None for what is no term."""

    def __init__(self, code: str) -> None:
        self.tokens = list(_TOKEN.finditer(code))
        self.at = 0
        self.complete = sum(len(token[0]) for token in self.tokens) == len(code)

    def whole(self) -> _Part | None:
        found = self.term() if self.complete else None
        return found if self.at == len(self.tokens) else None

    def term(self) -> _Part | None:
        """`/` at the start, then components with `.` and `/` between them, from left to right."""
        factor, powers = Fraction(1), dict[str, int]()
        sign = -1 if self.take("/") else 1
        while True:
            part = self.component()
            if part is None:
                return None
            factor = factor * part.factor if sign > 0 else factor / part.factor
            for base, power in part.powers.items():
                powers[base] = powers.get(base, 0) + sign * power
            if _too_large(factor) or any(abs(power) > _MAX_POWER for power in powers.values()):
                return None
            if self.take("."):
                sign = 1
            elif self.take("/"):
                sign = -1
            else:
                return _Part(factor, powers)

    def component(self) -> _Part | None:
        """A unit with its exponent, a number or a term in parentheses, each with or without an annotation; or an annotation alone."""
        if self.at == len(self.tokens):
            return None
        token = self.tokens[self.at]
        self.at += 1
        if token["annotation"]:
            return _Part(Fraction(1), {})
        if token["unit"]:
            found = _power(_atom(token["unit"]), int(token["exponent"] or 1))
        elif token["number"]:
            number = int(token["number"])
            found = _Part(Fraction(number), {}) if number else None
        else:
            found = self.term() if token[0] == "(" else None
            if found is not None and not self.take(")"):
                return None
        if self.at < len(self.tokens) and self.tokens[self.at]["annotation"]:
            self.at += 1
        return found

    def take(self, mark: str) -> bool:
        """Whether this mark comes next; it is passed over then."""
        found = self.at < len(self.tokens) and self.tokens[self.at][0] == mark
        self.at += found
        return found


def _too_large(factor: Fraction) -> bool:
    return factor.numerator.bit_length() > _MAX_BITS or factor.denominator.bit_length() > _MAX_BITS


def _power(part: _Part | None, exponent: int) -> _Part | None:
    if part is None or not exponent:
        return None
    bits = max(part.factor.numerator.bit_length(), part.factor.denominator.bit_length())
    # A factor of 1 has one bit and stays one.
    if (bits - 1) * abs(exponent) > _MAX_BITS:
        return None
    return _Part(part.factor**exponent, {base: power * exponent for base, power in part.powers.items()})


# There are some hundreds of atoms, with two dozen prefixes each; only those in use are ever asked for.
@lru_cache(maxsize=1024)
def _atom(symbol: str) -> _Part | None:
    """A unit without exponent, with or without a prefix."""
    found = _named(symbol)
    if found is not None:
        return found
    for size in (1, 2):
        prefix, rest = symbol[:size], symbol[size:]
        if prefix in PREFIXES and (rest in METRIC or rest in BASE or rest == _ARBITRARY_METRIC):
            named = _named(rest)
            assert named is not None
            return _Part(Fraction(PREFIXES[prefix]) * named.factor, named.powers)
    return None


def _named(symbol: str) -> _Part | None:
    if symbol in BASE or symbol in ARBITRARY or symbol == _ARBITRARY_METRIC:
        return _Part(Fraction(1), {symbol: 1})
    definition = METRIC.get(symbol) or PLAIN.get(symbol)
    if definition is None:
        return None
    factor, _, term = definition.partition(" ")
    found = _Reader(term).whole()
    assert found is not None
    return _Part(Fraction(factor) * found.factor, found.powers)
