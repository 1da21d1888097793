"""Where values lie: in their reference range, and over time. All places are shares of a width or height, from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from .reading import concept, quantity, unit
from .wording import Wording

Json = Mapping[str, Any]
MAX_POINTS: Final = 12
_TICKS: Final = 4
_LARGEST: Final = 1e12


def bar_of(value: Json | None, ranges: Sequence[Json], wording: Wording) -> dict[str, Any] | None:
    """The bar of a value in its first range, if that has an upper end: half its width more on each side, and what is beyond is at the end."""
    amount = _amount(value)
    limits = _limits(ranges)
    if amount is None or limits is None or value is None or "comparator" in value:
        return None
    low, high = limits
    start, end = low - (high - low) / 2, high + (high - low) / 2
    if ranges[0].get("low") is None:
        start = 0.0
    is_in = low <= amount <= high
    words = quantity(value, wording), f"{wording.number(_short(low))} – {wording.number(_short(high))}"
    return {
        "low": _share(low, start, end),
        "high": _share(high, start, end),
        "at": _share(amount, start, end),
        "alt": wording("bar-alt" if is_in else "bar-alt-out", *words),
    }


def trend_of(observation: Json, earlier: Sequence[Json], wording: Wording) -> dict[str, Any] | None:
    """The chart of an Observation after those of the same code and unit before it; None where there is none. `earlier` are newest first."""
    value = observation.get("valueQuantity")
    at = _at(observation, wording)
    if _amount(value) is None or value is None or at is None:
        return None
    codes, measured = _codes(observation), value.get("code") or value.get("unit")
    before = [
        (when, other["valueQuantity"])
        for other in earlier
        if (when := _at(other, wording)) is not None
        and when < at
        and _amount(other.get("valueQuantity")) is not None
        and other.get("id") != observation.get("id")
        and codes & _codes(other)
        and (other["valueQuantity"].get("code") or other["valueQuantity"].get("unit")) == measured
    ][: MAX_POINTS - 1]
    if not before:
        return None
    points = [*reversed(before), (at, value)]
    return _chart(observation, points, _limits(observation.get("referenceRange", ())), wording)


def _chart(observation: Json, points: Sequence[tuple[datetime, Json]], band: tuple[float, float] | None, wording: Wording) -> dict[str, Any]:
    amounts = [float(value["value"]) for _, value in points]
    bottom, top, step = _axis(min(*amounts, *(band or ())), max(*amounts, *(band or ())))
    first, last = points[0][0], points[-1][0]
    seconds = max((last - first).total_seconds(), 1.0)
    rows: list[list[str]] = [[wording.date(when.isoformat()), quantity(value, wording)] for when, value in points]
    name = concept(observation.get("code"))
    return {
        "name": name,
        "unit": unit(points[-1][1]),
        "band": [_share(band[0], bottom, top), _share(band[1], bottom, top)] if band else None,
        "ticks": [{"at": _share(tick, bottom, top), "text": wording.number(_short(tick))} for tick in _ticks(bottom, top, step)],
        "points": [
            {
                "x": (when - first).total_seconds() / seconds,
                "y": _share(amount, bottom, top),
                "out": band is not None and not band[0] <= amount <= band[1],
            }
            for (when, _), amount in zip(points, amounts, strict=True)
        ],
        "dates": [{"at": 0.0, "text": rows[0][0]}, {"at": 1.0, "text": rows[-1][0]}],
        "values": rows[::-1],
        "alt": wording("chart-alt", name, "; ".join(f"{day} {shown}" for day, shown in rows)),
    }


def _axis(low: float, high: float) -> tuple[float, float, float]:
    """Bottom, top and step of an axis with round numbers on it."""
    span = (high - low) or abs(high) or 1.0
    raw = span / _TICKS
    unit_of = 10.0 ** math.floor(math.log10(raw))
    step = next((unit_of * factor for factor in (1, 2, 5) if raw <= unit_of * factor), unit_of * 10)
    return math.floor(low / step) * step, (math.floor(high / step) + 1) * step, step


def _ticks(bottom: float, top: float, step: float) -> Iterator[float]:
    yield from (bottom + n * step for n in range(round((top - bottom) / step) + 1))


def _limits(ranges: Sequence[Json]) -> tuple[float, float] | None:
    """Both ends of the first range, from nought where it has an upper one alone."""
    found = next(iter(ranges), {})
    low, high = _amount(found.get("low")), _amount(found.get("high"))
    if high is None:
        return None
    low = min(0.0, high) if low is None else low
    return (low, high) if low < high else None


def _amount(value: Any) -> float | None:
    number: Any = value.get("value") if isinstance(value, Mapping) else None
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return None
    found = float(number)
    return found if abs(found) < _LARGEST else None


def _share(value: float, start: float, end: float) -> float:
    return round(min(max((value - start) / (end - start), 0.0), 1.0), 4)


def _short(number: float) -> Decimal:
    """A number of an axis, without what floating point adds to it."""
    found = Decimal(f"{number:.6g}")
    return found.quantize(Decimal(1)) if found == found.to_integral_value() else found.normalize()


def _codes(observation: Json) -> set[tuple[str, str]]:
    return {(coding.get("system", ""), coding["code"]) for coding in observation.get("code", {}).get("coding", ()) if "code" in coding}


def _at(observation: Json, wording: Wording) -> datetime | None:
    text = observation.get("effectiveDateTime") or observation.get("effectiveInstant") or observation.get("effectivePeriod", {}).get("start")
    try:
        return wording.moment(text) if text else None
    except (TypeError, ValueError):
        return None
