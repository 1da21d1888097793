"""From the rules of a Schedule to the times that it offers. Pure: rules and a span of time in, times in UTC out.

Rules are in local time, which on two days of the year has 23 and 25 hours. Each local window is found in UTC first and cut into visits then, by
elapsed minutes: a window that begins or ends in the hour that is left out is shorter, and one around the hour that comes twice is longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)
_MIDNIGHT: Final = time()
_TICK: Final = timedelta.resolution


class Span(NamedTuple):
    """A time, half open."""

    lo: datetime
    hi: datetime


@dataclass(frozen=True, slots=True)
class Weekly:
    """On these days of the week (of DAYS, none for all) from one local time to another; to midnight where that is not later, `whole` days without."""

    days: frozenset[str]
    start: time = _MIDNIGHT
    end: time = _MIDNIGHT


@dataclass(frozen=True, slots=True)
class Cutting:
    """How time is cut into visits of so many minutes.

    They begin every `interval` minutes, counted from midnight and so many minutes `offset`, or one after the other where there is no interval.
    Nothing else is offered in the `before` and `after` minutes around each.
    """

    minutes: int = 30
    interval: int | None = None
    offset: int = 0
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """When somebody is there: in all of the `weekly` groups at once, and so in one of the times of each; not in `closed` times; and in `extra` ones.

    `without` are local days on which nobody is there, but for extra times.
    """

    zone: ZoneInfo
    weekly: tuple[tuple[Weekly, ...], ...] = ()
    closed: tuple[Span, ...] = ()
    without: frozenset[date] = frozenset()
    extra: tuple[Span, ...] = ()
    bounds: Span | None = None
    cutting: Cutting = Cutting()


def open_times(rules: Rules, lo: datetime, hi: datetime) -> list[Span]:
    """When somebody is there, as much of it as overlaps a time, in order; what touches is one."""
    found: list[Span] = []
    if rules.weekly:
        days = list(_days(rules.zone, lo, hi))
        found = _merged(_of_days(rules.weekly[0], days, rules.zone))
        for group in rules.weekly[1:]:
            found = _both(found, _merged(_of_days(group, days, rules.zone)))
        away = [Span(resolve(day, _MIDNIGHT, rules.zone), resolve(day + _DAY, _MIDNIGHT, rules.zone)) for day in days if day in rules.without]
        found = _without(found, _merged([*away, *rules.closed]))
    found = _merged([*found, *(span for span in rules.extra if span.lo < hi and span.hi > lo)])
    if rules.bounds is not None:
        found = _both(found, [rules.bounds])
    return [span for span in found if span.lo < hi and span.hi > lo]


def visits(rules: Rules, lo: datetime, hi: datetime) -> list[Span]:
    """The times that are offered and begin from `lo` on and before `hi`."""
    # A window is cut from its own beginning, wherever the question begins.
    return [each for window in open_times(rules, lo - _DAY, hi + _DAY) for each in _cut(window, rules) if lo <= each.lo < hi]


def resolve(day: date, clock: time, zone: ZoneInfo, *, is_end: bool = False) -> datetime:
    """The moment at which clocks of a zone show a time, in UTC: the first one where they show it twice.

    If it `is_end` of something, that lasts as long as they show an earlier time. Where they never show it, the moment at which they leap over it.
    """
    local = datetime.combine(day, clock, tzinfo=zone) - (_TICK if is_end else timedelta())
    first, second = local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    if first <= second:
        return second + _TICK if is_end else first
    return _leap(second, first, zone)


def _leap(lo: datetime, hi: datetime, zone: ZoneInfo) -> datetime:
    """The second at which the offset of a zone changes."""
    before = lo.astimezone(zone).utcoffset()
    low, high = 0, int((hi - lo).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (lo + timedelta(seconds=middle)).astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return (lo + timedelta(seconds=high)).replace(microsecond=0)


def _days(zone: ZoneInfo, lo: datetime, hi: datetime) -> Iterator[date]:
    day, last = lo.astimezone(zone).date() - _DAY, hi.astimezone(zone).date() + _DAY
    while day <= last:
        yield day
        day += _DAY


def _of_days(group: Iterable[Weekly], days: Sequence[date], zone: ZoneInfo) -> Iterator[Span]:
    for each in group:
        for day in days:
            if not each.days or DAYS[day.weekday()] in each.days:
                end = resolve(day, each.end, zone, is_end=True) if each.end > each.start else resolve(day + _DAY, _MIDNIGHT, zone)
                span = Span(resolve(day, each.start, zone), end)
                if span.lo < span.hi:
                    yield span


def _merged(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(span for span in spans if span.lo < span.hi):
        if found and span.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(found[-1].hi, span.hi))
        else:
            found.append(span)
    return found


def _both(one: Sequence[Span], two: Sequence[Span]) -> list[Span]:
    found, at = [], 0
    for span in one:
        while at < len(two) and two[at].hi <= span.lo:
            at += 1
        for other in two[at:]:
            if other.lo >= span.hi:
                break
            found.append(Span(max(span.lo, other.lo), min(span.hi, other.hi)))
    return found


def _without(spans: Sequence[Span], away: Sequence[Span]) -> list[Span]:
    found = []
    for span in spans:
        lo = span.lo
        for gap in away:
            if gap.hi > lo and gap.lo < span.hi:
                if gap.lo > lo:
                    found.append(Span(lo, gap.lo))
                lo = max(lo, gap.hi)
        if lo < span.hi:
            found.append(Span(lo, span.hi))
    return found


def _cut(window: Span, rules: Rules) -> Iterator[Span]:
    cutting = rules.cutting
    length, before, after = (timedelta(minutes=each) for each in (cutting.minutes, cutting.before, cutting.after))
    step = timedelta(minutes=cutting.interval) if cutting.interval else None
    midnight = resolve(window.lo.astimezone(rules.zone).date(), _MIDNIGHT, rules.zone) + timedelta(minutes=cutting.offset)
    lo = window.lo + before
    while True:
        if step is not None:
            lo += (midnight - lo) % step
        if lo + length + after > window.hi:
            return
        yield Span(lo, lo + length)
        lo += length + after + before
