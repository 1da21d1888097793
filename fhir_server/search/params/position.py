"""Positions: what lies within a distance, as the crow flies.

https://hl7.org/fhir/R4/location.html#search

The distance is that of a sphere with the Earth's mean radius, by the haversine formula; the Earth's flattening makes it wrong by 0.6 % at most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from fhir_server import ucum
from fhir_server.fhirjson import Number
from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from .kind import Context, Maker, Row, split

TABLE: Final = "sp_position"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = None

RADIUS: Final = 6_371_008.8
"""Of the Earth, in metres."""
NEARBY: Final = "50"
"""Kilometres, where a query says no distance."""
_LITERAL: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MILES: Final = {"mi": "[mi_i]", "mi_i": "[mi_i]", "mi_us": "[mi_us]"}
_HALF_DEGREE: Final = math.pi / 360
_POLE: Final = 90.0
_DATE_LINE: Final = 180.0
_MARGIN: Final = 1e-7
"""Degrees, a centimetre: the box only narrows the range of the index and must not cut off what the formula counts in."""


class Near(NamedTuple):
    """Degrees, and the distance in metres."""

    latitude: float
    longitude: float
    distance: float


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (latitude, longitude)."""
    del element, context
    return _position if fhir_type == "Location.position" else None


def _position(value: dict[str, Any]) -> tuple[Row, ...]:
    if "latitude" not in value or "longitude" not in value:
        return ()
    latitude, longitude = float(value["latitude"]), float(value["longitude"])
    return ((latitude, _around(longitude)),) if abs(latitude) <= _POLE and abs(longitude) <= 2 * _DATE_LINE else ()


def _around(longitude: float) -> float:
    """The same meridian from -180 to 180, without a negative zero."""
    if abs(longitude) > _DATE_LINE:
        longitude -= math.copysign(2 * _DATE_LINE, longitude)
    return longitude + 0.0


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Near:
    """`latitude|longitude`, `latitude|longitude|distance` or `latitude|longitude|distance|unit`: kilometres without a unit, 50 without a distance."""
    del modifier, targets, context
    parts = split(text, "|")
    if not 2 <= len(parts) <= 4:  # noqa: PLR2004 - from latitude and longitude to all four
        raise ValueError(f"is not [latitude]|[longitude]|[distance]|[unit]: '{text[:80]}'")
    latitude, longitude = (_number(part, name, most) for part, name, most in zip(parts, *_LIMITS, strict=False))
    distance = _number(parts[2] if len(parts) > 2 and parts[2] else NEARBY, "distance", None)  # noqa: PLR2004
    unit = parts[3] if len(parts) > 3 and parts[3] and parts[2] else "km"  # noqa: PLR2004
    metres = ucum.canonical(distance, _MILES.get(unit, unit))
    if metres is None or metres[0] != "m":
        raise ValueError(f"has no unit of length such as km, m or [mi_i]: '{unit[:80]}'")
    return Near(float(latitude), _around(float(longitude)), float(metres[1]))


_LIMITS: Final = (("latitude", "longitude"), (90, 180))


def _number(text: str, name: str, most: int | None) -> Decimal:
    try:
        found = Number(text) if _LITERAL.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError(f"has a {name} that is no number such as 48.2: '{text[:80]}'")
    if abs(found) > most if most is not None else found < 0:
        raise ValueError(f"has a {name} that is not {'0 or more' if most is None else f'from -{most} to {most}'}: '{text[:80]}'")
    return found


def predicate(values: Sequence[Near], at: str) -> Statement:
    """A range of the index by latitude, and the formula for what it holds."""
    return any_of(_condition(value, at) for value in dict.fromkeys(values))


def _condition(value: Near, at: str) -> Statement:
    condition = Statement(
        f"power(sin(({at}latitude - %s) * {_HALF_DEGREE!r}::float8), 2) + cos({at}latitude * {2 * _HALF_DEGREE!r}::float8) * %s"
        f" * power(sin(({at}longitude - %s) * {_HALF_DEGREE!r}::float8), 2) <= %s",
        (value.latitude, math.cos(value.latitude * 2 * _HALF_DEGREE), value.longitude, _limit(value)),
    )
    reach = math.degrees(value.distance / RADIUS) + _MARGIN
    south, north = value.latitude - reach, value.latitude + reach
    box = Statement(f"{at}latitude >= %s AND {at}latitude <= %s", (south, north))
    # Around a pole there are all meridians.
    if south > -_POLE and north < _POLE:
        box = box.and_(_meridians(value, reach, at))
    return box.and_(condition)


def _meridians(value: Near, reach: float, at: str) -> Statement:
    """The meridians that the circle touches are further apart than its middle's, the more so the nearer it is to a pole."""
    width = math.degrees(math.asin(min(1.0, math.sin(math.radians(reach)) / math.cos(math.radians(value.latitude))))) + _MARGIN
    west, east = value.longitude - width, value.longitude + width
    if west < -_DATE_LINE:
        return Statement(f"({at}longitude >= %s OR {at}longitude <= %s)", (west + 2 * _DATE_LINE, east))
    if east > _DATE_LINE:
        return Statement(f"({at}longitude >= %s OR {at}longitude <= %s)", (west, east - 2 * _DATE_LINE))
    return Statement(f"{at}longitude >= %s AND {at}longitude <= %s", (west, east))


def _limit(value: Near) -> float:
    """What the haversine of the angle may be; more than any for half the Earth's girth and beyond."""
    half = value.distance / RADIUS / 2
    return math.pow(math.sin(half), 2) if half < math.pi / 2 else 2.0


def ends(row: Row) -> tuple[Any, Any]:
    """Nothing that could be sorted by."""
    raise TypeError(f"positions have no order: {row}")


def matches(value: Near, row: Row) -> bool:
    """The same arithmetic as the predicate's, step by step."""
    latitude, longitude = row
    across = math.cos(latitude * (2 * _HALF_DEGREE)) * math.cos(value.latitude * 2 * _HALF_DEGREE)
    angle = math.pow(math.sin((latitude - value.latitude) * _HALF_DEGREE), 2)
    angle += across * math.pow(math.sin((longitude - value.longitude) * _HALF_DEGREE), 2)
    return angle <= _limit(value)
