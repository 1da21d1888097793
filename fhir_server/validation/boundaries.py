"""Whether one point in time certainly lies after another, when either may be a year, a month, a day or lack a zone.

https://hl7.org/fhir/R4/datatypes.html#dateTime
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_WIDEST_ZONE: Final = timedelta(hours=14)
_MONTHS, _DAYS = 7, 10
"""Characters of a month and of a day as FHIR writes them."""


def certainly_after(first: Any, second: Any) -> bool:
    """Whether every moment that `first` may mean is after every one that `second` may mean; False for what is no date or dateTime."""
    if type(first) is not str or type(second) is not str:
        return False
    if len(first) == len(second) and first[19:] == second[19:]:
        return first > second
    if len(first) <= _DAYS and len(second) <= _DAYS:
        shared = min(len(first), len(second))
        return first[:shared] > second[:shared]
    try:
        return _bounds(first)[0] > _bounds(second)[1]
    except (ValueError, OverflowError):
        return False


def _bounds(text: str) -> tuple[datetime, datetime]:
    if len(text) > _DAYS:
        leap = text[17:19] == "60"
        moment = datetime.fromisoformat(text[:17] + "59" + text[19:] if leap else text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment, moment + timedelta(seconds=1) - timedelta(microseconds=1)
    year = int(text[:4])
    first_month = int(text[5:7]) if len(text) >= _MONTHS else 1
    last_month = first_month if len(text) >= _MONTHS else 12
    first_day = int(text[8:10]) if len(text) == _DAYS else 1
    last_day = first_day if len(text) == _DAYS else monthrange(year, last_month)[1]
    low = datetime(year, first_month, first_day, tzinfo=UTC)
    high = datetime(year, last_month, last_day, tzinfo=UTC) + timedelta(days=1) - timedelta(microseconds=1)
    return low - _WIDEST_ZONE, high + _WIDEST_ZONE
