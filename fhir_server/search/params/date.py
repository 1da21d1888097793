"""Date parameters: every date is the span of time it stands for, half open, as the query's date is.

https://hl7.org/fhir/R4/search.html#date, https://hl7.org/fhir/R4/search.html#prefix

Ends are texts in UTC of one width, such as `2020-01-31T22:00:00.000000+00:00`, or `-infinity` and `infinity`: texts so made compare as the times
do, and PostgreSQL reads them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from .kind import Context, Maker, Row

TABLE: Final = "sp_date"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("lo", "hi", "timestamptz")

MINUS_INFINITY: Final = "-infinity"
INFINITY: Final = "infinity"
_PREFIX: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.ASCII | re.DOTALL)
_LITERAL: Final = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,20}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?",
    re.ASCII,
)
_MICROSECOND_DIGITS: Final = 6
_DECEMBER: Final = 12


class Span(NamedTuple):
    """A date of a query: `lo` included, `hi` not."""

    prefix: str
    lo: str
    hi: str


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (lo, hi)."""
    del element
    zone = context.zone
    if fhir_type == "Period":
        return lambda value: _period(value, zone)
    if fhir_type == "Timing":
        return lambda value: _timing(value, zone)
    return (lambda value: (span(value, zone),)) if fhir_type in {"date", "dateTime", "instant"} else None


def _period(value: dict[str, Any], zone: ZoneInfo) -> tuple[Row, ...]:
    start, end = value.get("start"), value.get("end")
    if start is None and end is None:
        return ()
    return ((span(start, zone)[0] if start else MINUS_INFINITY, span(end, zone)[1] if end else INFINITY),)


def _timing(value: dict[str, Any], zone: ZoneInfo) -> tuple[Row, ...]:
    """Only the outer limits of a schedule count; bounds that are a duration say nothing of when that is."""
    spans: list[Row] = [span(event, zone) for event in value.get("event", ()) if event]
    spans += _period(value.get("repeat", {}).get("boundsPeriod", {}), zone)
    return ((min(lo for lo, _ in spans), max(hi for _, hi in spans)),) if spans else ()


# A resource repeats its dates, and so do the resources of a bundle.
@lru_cache(maxsize=8192)
def span(text: str, zone: ZoneInfo) -> tuple[str, str]:
    """The time that a date, dateTime or instant covers at its precision; what names no zone is taken in `zone`.

    Raises ValueError for what is no date. Costs about 3 µs, 0.1 µs for a text it has seen lately.
    """
    found = _LITERAL.fullmatch(text)
    try:
        if found is not None:
            return _span(found, zone)
    except ValueError:
        # A 13th month, or February's 30th.
        pass
    raise ValueError(f"is no date such as 2020, 2020-03-29 or 2020-03-29T12:30:00Z: '{text[:80]}'")


def _span(found: re.Match[str], zone: ZoneInfo) -> tuple[str, str]:
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    first = date(int(year), int(month or 1), int(day or 1))
    if hour is None:
        after = _following(first, by_month=month is not None, by_day=day is not None)
        return _text(lambda: _midnight(first, zone), MINUS_INFINITY), _text(lambda: _midnight(after, zone) if after else None, INFINITY)
    # A leap second is the first of the next minute.
    leap, seconds = (1, 59) if second == "60" else (0, int(second or 0))
    micros = int((fraction or "").ljust(_MICROSECOND_DIGITS, "0")[:_MICROSECOND_DIGITS])
    local = datetime(first.year, first.month, first.day, int(hour), int(minute), seconds, micros, _offset(offset) if offset else zone)
    if fraction:
        length = timedelta(microseconds=10 ** max(0, _MICROSECOND_DIGITS - len(fraction)))
    else:
        length = timedelta(seconds=1) if second else timedelta(minutes=1)
    delay = timedelta(seconds=leap)
    return _text(lambda: local.astimezone(UTC) + delay, MINUS_INFINITY), _text(lambda: local.astimezone(UTC) + delay + length, INFINITY)


def parse_date(text: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The same as times, for dates outside of searches such as `_since`; what lies beyond the calendar is its first or last moment."""
    lo, hi = span(text, zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return first if lo == MINUS_INFINITY else datetime.fromisoformat(lo), last if hi == INFINITY else datetime.fromisoformat(hi)


def _following(first: date, *, by_month: bool, by_day: bool) -> date | None:
    """The first day after a year, month or day; None after the last there is."""
    try:
        if by_day:
            return first + timedelta(days=1)
        if by_month and first.month < _DECEMBER:
            return first.replace(month=first.month + 1)
        return date(first.year + 1, 1, 1)
    except (OverflowError, ValueError):
        return None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _offset(text: str) -> tzinfo:
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[4:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _text(moment: Callable[[], datetime | None], beyond: str) -> str:
    try:
        found = moment()
        return beyond if found is None else found.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        return beyond


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Span:
    """A date or time of any precision down to the minute, with a prefix or none."""
    del modifier, targets
    found = _PREFIX.fullmatch(text)
    prefix, literal = (found[1] or "eq", found[2]) if found else ("eq", text)
    # A plus sign that was not percent-encoded arrives as a space.
    lo, hi = span(literal.replace(" ", "+"), context.zone)
    return _approximate(lo, hi, context.now) if prefix == "ap" else Span(prefix, lo, hi)


def _approximate(lo: str, hi: str, now: datetime | None) -> Span:
    """A tenth of the distance from now on both sides, as the specification recommends."""
    if now is None or MINUS_INFINITY in (lo, hi) or INFINITY in (lo, hi):
        return Span("ap", lo, hi)
    start, end = datetime.fromisoformat(lo), datetime.fromisoformat(hi)
    margin = abs(now - start) / 10
    return Span("ap", _text(lambda: start - margin, MINUS_INFINITY), _text(lambda: end + margin, INFINITY))


def predicate(values: Sequence[Span], at: str) -> Statement:
    """Ranges of the indexes by either end."""
    return any_of(_condition(value, at) for value in dict.fromkeys(values))


def _condition(value: Span, at: str) -> Statement:  # noqa: PLR0911 - one per prefix
    lo, hi = f"{at}lo", f"{at}hi"
    match value.prefix:
        case "eq":
            # Where a condition follows from the others here and below, it gives the range in the index its other end.
            return Statement(f"{lo} >= %s AND {lo} < %s AND {hi} <= %s", (value.lo, value.hi, value.hi))
        case "ne":
            return Statement(f"({lo} < %s OR {hi} > %s)", (value.lo, value.hi))
        case "ge":
            return Statement(f"{hi} > %s AND ({lo} >= %s OR {hi} > %s)", (value.lo, value.lo, value.hi))
        case "le":
            return Statement(f"{lo} < %s AND ({lo} < %s OR {hi} <= %s)", (value.hi, value.lo, value.hi))
        case "gt":
            return Statement(f"{hi} > %s", (value.hi,))
        case "lt":
            return Statement(f"{lo} < %s", (value.lo,))
        case "sa":
            return Statement(f"{lo} >= %s", (value.hi,))
        case "eb":
            return Statement(f"{hi} <= %s", (value.lo,))
        case _:
            return Statement(f"{lo} < %s AND {hi} > %s", (value.hi, value.lo))


def ends(row: Row) -> tuple[str, str]:
    """Both ends."""
    return row[0], row[1]


def matches(value: Span, row: Row) -> bool:  # noqa: PLR0911 - one per prefix
    """The row's span stands to the value as the prefix says."""
    lo, hi = row[0], row[1]
    match value.prefix:
        case "eq":
            return bool(value.lo <= lo < value.hi and hi <= value.hi)
        case "ne":
            return bool(lo < value.lo or hi > value.hi)
        case "ge":
            return bool(hi > value.lo and (lo >= value.lo or hi > value.hi))
        case "le":
            return bool(lo < value.hi and (lo < value.lo or hi <= value.hi))
        case "gt":
            return bool(hi > value.hi)
        case "lt":
            return bool(lo < value.lo)
        case "sa":
            return bool(lo >= value.hi)
        case "eb":
            return bool(hi <= value.lo)
        case _:
            return bool(lo < value.hi and hi > value.lo)
