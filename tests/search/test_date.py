from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from fhir_server.search import Registry, parse_date
from fhir_server.search.params import Context, date
from fhir_server.spec import r4

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
        assert registry.rows({"resourceType": "Observation", **value}) == {}
