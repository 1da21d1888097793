from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.search import Registry
from fhir_server.search.params import Context, date
from fhir_server.search.params.date import parse_date
from fhir_server.spec import r4
from tests.search.agreement import assert_agreement

BERLIN = ZoneInfo("Europe/Berlin")
CONTEXT = Context(r4(), {}, BERLIN)


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("2020", "2019-12-31T23:00:00", "2020-12-31T23:00:00"),
        ("2020-02", "2020-01-31T23:00:00", "2020-02-29T23:00:00"),
        ("2020-12", "2020-11-30T23:00:00", "2020-12-31T23:00:00"),
        ("2020-07-01", "2020-06-30T22:00:00", "2020-07-01T22:00:00"),
        # The days on which clocks change have 23 and 25 hours.
        ("2020-03-29", "2020-03-28T23:00:00", "2020-03-29T22:00:00"),
        ("2020-10-25", "2020-10-24T22:00:00", "2020-10-25T23:00:00"),
        ("2020-01-01T10:00", "2020-01-01T09:00:00", "2020-01-01T09:01:00"),
        ("2020-01-01T10:00:30", "2020-01-01T09:00:30", "2020-01-01T09:00:31"),
        ("2020-01-01T10:00:00Z", "2020-01-01T10:00:00", "2020-01-01T10:00:01"),
        ("2020-01-01T10:00:00-05:00", "2020-01-01T15:00:00", "2020-01-01T15:00:01"),
        ("2020-01-01T10:00:00.5Z", "2020-01-01T10:00:00.500000", "2020-01-01T10:00:00.600000"),
        ("2020-01-01T10:00:00.123Z", "2020-01-01T10:00:00.123000", "2020-01-01T10:00:00.124000"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00", "2017-01-01T00:00:01"),
    ],
)
def test_span(text: str, lo: str, hi: str) -> None:
    def full(moment: str) -> str:
        return moment + ("" if "." in moment else ".000000") + "+00:00"

    assert date.span(text, BERLIN) == (full(lo), full(hi))


def test_the_ends_of_the_calendar() -> None:
    assert date.span("9999", UTC_ZONE) == ("9999-01-01T00:00:00.000000+00:00", "infinity")
    assert date.span("0001-01-01T00:00:00+14:00", UTC_ZONE)[0] == "-infinity"
    assert parse_date("9999", UTC_ZONE)[1].year == 9999


UTC_ZONE = ZoneInfo("UTC")


@pytest.mark.parametrize(
    "text",
    ["", "20", "2020-13", "2020-02-30", "2020-01-01T24:00", "2020-01-01T10", "2020-1-1", "0000", "2020-01-01T10:00:00+99:00", "٢٠٢٠", "x" * 9999],
)
def test_no_dates(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        date.parse(text, None, (), CONTEXT)


# Each row: where the resource's date lies against March 2020, then the prefixes that it satisfies.
ROWS = {
    "before": (("2020-02-01", "2020-02-02"), {"ne", "lt", "le", "eb"}),
    "touching the start": (("2020-02-28", "2020-03-01"), {"ne", "lt", "le", "eb"}),
    "across the start": (("2020-02-28", "2020-03-02"), {"ne", "lt", "le", "ap"}),
    "same": (("2020-03-01", "2020-04-01"), {"eq", "ge", "le", "ap"}),
    "within": (("2020-03-05", "2020-03-06"), {"eq", "ge", "le", "ap"}),
    "across the end": (("2020-03-31", "2020-04-02"), {"ne", "gt", "ge", "ap"}),
    "touching the end": (("2020-04-01", "2020-04-02"), {"ne", "gt", "ge", "sa"}),
    "after": (("2020-05-01", "2020-05-02"), {"ne", "gt", "ge", "sa"}),
    "around": (("2020-01-01", "2020-12-31"), {"ne", "lt", "le", "gt", "ge", "ap"}),
    "open start, ends before": ((None, "2020-02-01"), {"ne", "lt", "le", "eb"}),
    "open start, ends within": ((None, "2020-03-05"), {"ne", "lt", "le", "ap"}),
    "open start, ends after": ((None, "2020-05-01"), {"ne", "lt", "le", "gt", "ge", "ap"}),
    "open end, starts before": (("2020-02-01", None), {"ne", "lt", "le", "gt", "ge", "ap"}),
    "open end, starts within": (("2020-03-05", None), {"ne", "gt", "ge", "ap"}),
    "open end, starts after": (("2020-05-01", None), {"ne", "gt", "ge", "sa"}),
}


@pytest.mark.parametrize("where", ROWS)
def test_prefixes(where: str) -> None:
    (start, end), expected = ROWS[where]
    row = (f"{start}T00:00:00.000000+00:00" if start else date.MINUS_INFINITY, f"{end}T00:00:00.000000+00:00" if end else date.INFINITY)
    context = Context(r4(), {}, UTC_ZONE)
    found = {
        prefix
        for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
        if date.matches(date.parse(prefix + "2020-03", None, (), context), row)
    }
    assert found == expected
    assert date.matches(date.parse("2020-03", None, (), context), row) == ("eq" in expected)


def test_approximate_widens_by_a_tenth_of_the_distance_from_now() -> None:
    context = Context(r4(), {}, UTC_ZONE, now=datetime(2020, 1, 11, tzinfo=UTC))
    assert date.parse("ap2020-01-01", None, (), context) == date.Span("ap", "2019-12-31T00:00:00.000000+00:00", "2020-01-03T00:00:00.000000+00:00")


def test_a_plus_that_became_a_space_is_a_plus() -> None:
    assert date.parse("ge2020-01-01T10:00:00 02:00", None, (), CONTEXT) == date.parse("ge2020-01-01T10:00:00+02:00", None, (), CONTEXT)


@pytest.mark.parametrize(
    ("value", "lo", "hi"),
    [
        ({"effectivePeriod": {"start": "2020-01-02", "end": "2020-01-03"}}, "2020-01-01T23:00:00.000000+00:00", "2020-01-03T23:00:00.000000+00:00"),
        ({"effectivePeriod": {"start": "2020-01-02"}}, "2020-01-01T23:00:00.000000+00:00", "infinity"),
        ({"effectivePeriod": {"end": "2020-01-02"}}, "-infinity", "2020-01-02T23:00:00.000000+00:00"),
        ({"effectiveInstant": "2020-01-02T03:04:05.678Z"}, "2020-01-02T03:04:05.678000+00:00", "2020-01-02T03:04:05.679000+00:00"),
        ({"effectiveTiming": {"event": ["2020-01-05", "2020-01-02"]}}, "2020-01-01T23:00:00.000000+00:00", "2020-01-05T23:00:00.000000+00:00"),
        ({"effectiveTiming": {"repeat": {"boundsPeriod": {"start": "2020-01-02"}}}}, "2020-01-01T23:00:00.000000+00:00", "infinity"),
    ],
)
def test_rows(registry: Registry, value: dict[str, object], lo: str, hi: str) -> None:
    pid = registry.supported_params("Observation")["date"].pid
    assert registry.rows({"resourceType": "Observation", **value}) == {"sp_date": [(pid, lo, hi, True, True)]}


def test_a_period_or_timing_that_says_nothing_has_no_row(registry: Registry) -> None:
    nothing: tuple[dict[str, object], ...] = ({"effectivePeriod": {}}, {"effectiveTiming": {"code": {"text": "daily"}}})
    for value in nothing:
        assert "sp_date" not in registry.rows({"resourceType": "Observation", **value})


@pytest.mark.parametrize("text", ["2020-13", "ge2020-02-30", "tomorrow", "2020-01-01T25:00", "2020-01-01T10:00:00+99:00"])
def test_a_value_of_another_form_is_told_the_right_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no date such as 2020, 2020-03-29 or 2020-03-29T12:30:00Z: "):
        date.parse(text, None, (), CONTEXT)


PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
Range = tuple[datetime, datetime]


def stated(prefix: str, asked: Range, held: Range) -> bool:
    """The prefixes in the words of the specification, of ranges without their last moment."""
    contains = asked[0] <= held[0] and held[1] <= asked[1]
    overlaps = asked[0] < held[1] and held[0] < asked[1]
    above, below = held[1] > asked[1], held[0] < asked[0]
    return {
        "": contains,
        "eq": contains,
        "ne": not contains,
        "gt": above,
        "lt": below,
        "ge": above or contains,
        "le": below or contains,
        "sa": not overlaps and held[0] >= asked[1],
        "eb": not overlaps and held[1] <= asked[0],
        "ap": overlaps,
    }[prefix]


def moments(lo: str, hi: str) -> Range:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return first if lo == date.MINUS_INFINITY else datetime.fromisoformat(lo), last if hi == date.INFINITY else datetime.fromisoformat(hi)


# Values whose ends meet: at midnight here and in UTC, on the days on which clocks change, and open ones.
LITERALS = (
    *("2019", "2020", "2020-03", "2020-03-29", "2020-03-30", "2020-03-28T23:00Z", "2020-03-29T00:00+01:00", "2020-03-29T03:30:00+02:00"),
    *("2020-03-29T01:30:00Z", "2020-03-29T01:30:00.5Z", "2020-03-29T01:30:00.500000Z", "2020-10-25", "2020-10-25T02:30:00+02:00", "2021-01-01"),
)
INSTANTS = tuple(text for text in LITERALS if text.count(":") > 1)
DATE_TIMES = tuple(text for text in LITERALS if "T" not in text or text.count(":") > 1)
date_times = st.sampled_from(DATE_TIMES)
periods = st.tuples(date_times, date_times).map(lambda ends: sorted(ends, key=lambda text: date.span(text, BERLIN)))
held_dates = st.one_of(
    st.builds(lambda text: {"effectiveDateTime": text}, date_times),
    st.builds(lambda text: {"effectiveInstant": text}, st.sampled_from(INSTANTS)),
    st.builds(lambda ends: {"effectivePeriod": {"start": ends[0], "end": ends[1]}}, periods),
    st.builds(lambda text: {"effectivePeriod": {"start": text}}, date_times),
    st.builds(lambda text: {"effectivePeriod": {"end": text}}, date_times),
    st.builds(lambda texts: {"effectiveTiming": {"event": texts}}, st.lists(date_times, min_size=1, max_size=3)),
    st.builds(
        lambda ends, text: {"effectiveTiming": {"event": [text], "repeat": {"boundsPeriod": {"start": ends[0], "end": ends[1]}}}}, periods, date_times
    ),
    st.builds(lambda text: {"effectiveTiming": {"repeat": {"boundsPeriod": {"end": text}}}}, date_times),
    st.just({"effectiveTiming": {"repeat": {"boundsDuration": {"value": 5}}}}),
    st.just({}),
)
asked_dates = st.tuples(st.sampled_from(PREFIXES), st.sampled_from(LITERALS))


@given(held=held_dates, asked=asked_dates)
def test_every_prefix_means_what_the_specification_says(registry: Registry, held: dict[str, object], asked: tuple[str, str]) -> None:
    pid = registry.supported_params("Observation")["date"].pid
    prefix, literal = asked
    value = date.parse(prefix + literal, None, (), registry.context)
    wanted = moments(*date.span(literal, BERLIN))
    for row in registry.rows({"resourceType": "Observation", **held}).get("sp_date", ()):
        if row[0] == pid:
            assert date.matches(value, row[1:]) is stated(prefix, wanted, moments(row[1], row[2]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(held=st.lists(held_dates, min_size=3, max_size=10), asked=st.lists(asked_dates.map("".join), min_size=4, max_size=16))
def test_sql_finds_what_matches(database: Any, held: list[dict[str, Any]], asked: list[str]) -> None:
    assert_agreement(database, "Observation", "date", held, asked)
