"""Rules in local time and the visits that come of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.scheduling.availability import DAYS, Cutting, Rules, Span, Weekly, open_times, resolve, visits

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
ALWAYS = (Weekly(frozenset()),)


def day(zone: ZoneInfo, when: date) -> tuple[datetime, datetime]:
    return resolve(when, time(), zone), resolve(when + timedelta(days=1), time(), zone)


def weekly(start: str, end: str, *days: str) -> tuple[Weekly, ...]:
    return (Weekly(frozenset(days), time.fromisoformat(start), time.fromisoformat(end)),)


@pytest.mark.parametrize(
    ("zone", "when", "hours"),
    [
        (BERLIN, date(2031, 3, 30), 23),
        (BERLIN, date(2031, 10, 26), 25),
        (BERLIN, date(2031, 3, 31), 24),
        (NEW_YORK, date(2031, 3, 9), 23),
        (NEW_YORK, date(2031, 11, 2), 25),
        (LORD_HOWE, date(2031, 10, 5), 23.5),
        (LORD_HOWE, date(2031, 4, 6), 24.5),
    ],
)
def test_a_day_has_the_hours_that_its_clocks_show(zone: ZoneInfo, when: date, hours: float) -> None:
    rules = Rules(zone, (ALWAYS,))
    assert len(visits(rules, *day(zone, when))) == hours * 2
    # From an hour before the clocks change until an hour after, by what they show.
    night = Rules(zone, (weekly("00:00", "05:00"),))
    assert len(visits(night, *day(zone, when))) == 10 + (hours - 24) * 2


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [("02:00", "03:00", 0), ("02:30", "03:30", 30), ("01:30", "02:30", 30), ("01:00", "04:00", 120)],
)
def test_a_window_in_the_hour_that_is_left_out_is_shorter(start: str, end: str, minutes: int) -> None:
    found = open_times(Rules(BERLIN, (weekly(start, end),)), *day(BERLIN, date(2031, 3, 30)))
    assert sum(((span.hi - span.lo) for span in found), timedelta()) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("start", "end", "minutes"), [("02:00", "03:00", 120), ("02:30", "02:45", 75), ("01:00", "02:00", 60), ("03:00", "04:00", 60)]
)
def test_a_window_around_the_hour_that_comes_twice_is_longer(start: str, end: str, minutes: int) -> None:
    found = open_times(Rules(BERLIN, (weekly(start, end),)), *day(BERLIN, date(2031, 10, 26)))
    assert sum(((span.hi - span.lo) for span in found), timedelta()) == timedelta(minutes=minutes)


def test_weekdays_breaks_leave_holidays_and_extra_times() -> None:
    monday = date(2031, 3, 3)
    rules = Rules(
        BERLIN,
        ((*weekly("09:00", "12:00", "mon", "tue"), *weekly("13:00", "15:00", "mon")), weekly("10:00", "14:00")),
        closed=(Span(datetime(2031, 3, 3, 9, 30, tzinfo=UTC), datetime(2031, 3, 3, 10, tzinfo=UTC)),),
        without=frozenset({date(2031, 3, 4)}),
        extra=(Span(datetime(2031, 3, 4, 17, tzinfo=UTC), datetime(2031, 3, 4, 18, tzinfo=UTC)),),
        cutting=Cutting(60),
    )
    found = visits(rules, day(BERLIN, monday)[0], day(BERLIN, date(2031, 3, 10))[0])
    # 10:00 to 10:30 is too short; 11:00 to 12:00, 13:00 to 14:00, and the evening of the holiday.
    assert [span.lo.astimezone(BERLIN).strftime("%a %H:%M") for span in found] == ["Mon 11:00", "Mon 13:00", "Tue 18:00"]


def test_durations_grids_and_buffers_are_three_things() -> None:
    rules = Rules(BERLIN, (weekly("09:05", "12:00", "mon"),), cutting=Cutting(20, interval=15, offset=5, before=5, after=10))
    found = visits(rules, *day(BERLIN, date(2031, 3, 3)))
    assert [span.lo.astimezone(BERLIN).strftime("%H:%M") for span in found] == ["09:20", "10:05", "10:50", "11:20"][: len(found)]
    assert len(found) == 4 or found[-1].hi + timedelta(minutes=10) <= datetime(2031, 3, 3, 11, tzinfo=UTC)


def test_nothing_before_or_after_the_planning() -> None:
    bounds = Span(datetime(2031, 3, 3, 12, tzinfo=UTC), datetime(2031, 3, 4, tzinfo=UTC))
    found = visits(Rules(BERLIN, (ALWAYS,), bounds=bounds), *day(BERLIN, date(2031, 3, 3)))
    assert (found[0].lo, found[-1].hi) == (bounds.lo, bounds.hi - timedelta(hours=1))


_rules = st.builds(
    Rules,
    st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE]),
    st.lists(
        st.lists(st.builds(Weekly, st.frozensets(st.sampled_from(DAYS)), st.times(), st.times()), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=2,
    ).map(tuple),
    without=st.frozensets(st.dates(date(2031, 3, 1), date(2031, 4, 10)), max_size=3),
    cutting=st.builds(
        Cutting, st.integers(5, 120), st.none() | st.sampled_from([5, 10, 15, 60]), st.integers(0, 30), st.integers(0, 15), st.integers(0, 15)
    ),
)
_moments = st.datetimes(datetime(2031, 3, 5), datetime(2031, 4, 10), timezones=st.just(UTC))  # noqa: DTZ001 - they get one


@given(_rules, _moments, st.timedeltas(timedelta(), timedelta(days=9)))
def test_visits_lie_in_open_times_apart_and_on_the_grid(rules: Rules, lo: datetime, length: timedelta) -> None:
    hi = lo + length
    found, cutting = visits(rules, lo, hi), rules.cutting
    windows = open_times(rules, lo - timedelta(days=1), hi + timedelta(days=2))
    before, after = timedelta(minutes=cutting.before), timedelta(minutes=cutting.after)
    for span in found:
        assert lo <= span.lo < hi
        assert span.hi - span.lo == timedelta(minutes=cutting.minutes)
        assert any(window.lo <= span.lo - before and span.hi + after <= window.hi for window in windows)
        assert span.lo.astimezone(rules.zone).date() not in rules.without
    for one, two in pairwise(found):
        assert two.lo - one.hi >= before + after


@given(_rules, _moments, st.timedeltas(timedelta(), timedelta(days=4)), st.timedeltas(timedelta(), timedelta(days=4)))
def test_a_question_in_two_parts_has_the_same_answer(rules: Rules, lo: datetime, one: timedelta, two: timedelta) -> None:
    middle, hi = lo + one, lo + one + two
    assert visits(rules, lo, middle) + visits(rules, middle, hi) == visits(rules, lo, hi)
