"""Statistics of measurements: pure arithmetic over decimals.

https://hl7.org/fhir/R4/valueset-observation-statistics.html

Percentiles are interpolated between the neighbouring values; deviation and variance are those of a sample (divided by n - 1); skew and kurtosis are
the standardized third and fourth moments, 0 and 3 for a normal distribution.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

DISPLAYS: Final[Mapping[str, str]] = {
    "average": "Average",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "count": "Count",
    "total-count": "Total Count",
    "median": "Median",
    "std-dev": "Standard Deviation",
    "sum": "Sum",
    "variance": "Variance",
    "20-percent": "20th Percentile",
    "80-percent": "80th Percentile",
    "4-lower": "Lower Quartile",
    "4-upper": "Upper Quartile",
    "4-dev": "Quartile Deviation",
    "5-1": "1st Quintile",
    "5-2": "2nd Quintile",
    "5-3": "3rd Quintile",
    "5-4": "4th Quintile",
    "skew": "Skew",
    "kurtosis": "Kurtosis",
    "regression": "Regression",
}
"""Codes of http://terminology.hl7.org/CodeSystem/observation-statistics with their names."""

_CONTEXT: Final = decimal.Context(prec=50)
_SHOWN: Final = decimal.Context(prec=12)


class Line(NamedTuple):
    """A value that grows by `gradient` per unit of the other axis from `intercept`."""

    gradient: Decimal
    intercept: Decimal


def measure(code: str, values: Sequence[Decimal]) -> Decimal | None:
    """A statistic of values; None where so few values have none. `count`, `total-count` and `regression` are not of values alone."""
    with decimal.localcontext(_CONTEXT):
        return _shown(_MEASURES[code](sorted(values))) if values else None


def regression(points: Sequence[tuple[Decimal, Decimal]]) -> Line | None:
    """The line through points that fits best by least squares; None where they lie at fewer than two places."""
    with decimal.localcontext(_CONTEXT):
        if len({x for x, _ in points}) < 2:  # noqa: PLR2004 - what a line takes
            return None
        middle, height = _average([x for x, _ in points]), _average([y for _, y in points])
        gradient = _sum([(x - middle) * (y - height) for x, y in points]) / _sum([(x - middle) ** 2 for x, _ in points])
        return Line(_rounded(gradient), _rounded(height - gradient * middle))


def _shown(value: Decimal | None) -> Decimal | None:
    return None if value is None else _rounded(value)


def _rounded(value: Decimal | int) -> Decimal:
    """To twelve digits, without exponent where that is as short."""
    short = _SHOWN.plus(Decimal(value)).normalize()
    return short.quantize(Decimal(1)) if 0 < int(short.as_tuple().exponent) < 12 else short  # noqa: PLR2004 - the digits that are shown


def _sum(values: Sequence[Decimal]) -> Decimal:
    return sum(values, Decimal())


def _average(values: Sequence[Decimal]) -> Decimal:
    return _sum(values) / len(values)


def _variance(values: Sequence[Decimal]) -> Decimal | None:
    return _moment(values, 2) * len(values) / (len(values) - 1) if len(values) > 1 else None


def _deviation(values: Sequence[Decimal]) -> Decimal | None:
    variance = _variance(values)
    return None if variance is None else variance.sqrt()


def _moment(values: Sequence[Decimal], power: int) -> Decimal:
    mean = _average(values)
    return _average([(value - mean) ** power for value in values])


def _standardized(power: int) -> Callable[[Sequence[Decimal]], Decimal | None]:
    def moment(values: Sequence[Decimal]) -> Decimal | None:
        spread = _moment(values, 2)
        return _moment(values, power) / spread.sqrt() ** power if spread else None

    return moment


def _percentile(part: str) -> Callable[[Sequence[Decimal]], Decimal]:
    def percentile(values: Sequence[Decimal]) -> Decimal:
        place = Decimal(part) * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    return percentile


def _quartile_deviation(values: Sequence[Decimal]) -> Decimal:
    return (_percentile("0.75")(values) - _percentile("0.25")(values)) / 2


_MEASURES: Final[Mapping[str, Callable[[Sequence[Decimal]], Decimal | None]]] = {
    "average": _average,
    "maximum": max,
    "minimum": min,
    "median": _percentile("0.5"),
    "std-dev": _deviation,
    "sum": _sum,
    "variance": _variance,
    "20-percent": _percentile("0.2"),
    "80-percent": _percentile("0.8"),
    "4-lower": _percentile("0.25"),
    "4-upper": _percentile("0.75"),
    "4-dev": _quartile_deviation,
    "5-1": _percentile("0.2"),
    "5-2": _percentile("0.4"),
    "5-3": _percentile("0.6"),
    "5-4": _percentile("0.8"),
    "skew": _standardized(3),
    "kurtosis": _standardized(4),
}
