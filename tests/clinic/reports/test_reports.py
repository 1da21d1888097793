"""Each figure of a report is what the resources come to, whatever was written in whatever order, and whatever clocks did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fhir_server.clinic.reports import MOST_DAYS, REPORTS, Asked, Made, Report, as_csv, make
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.ops import Delete, Put
from tests.store.anew import made_anew

from .recompute import ALL, World
from .world import FIRST, LAST, ZONE, Clinic, Json

TABLES = ("invoice_sum", "invoice_line", "payment_sum", "visit_time")
FILTERS = {"practitioner": "p0", "location": "l0", "currency": "JPY", "category": "LAB"}
USUAL = Asked(FIRST, LAST)


@contextmanager
def opened(url: str) -> Iterator[Store]:
    store = Store(url, zone=ZONE, bases=("http://localhost/fhir",), connections=4, clock=lambda: datetime(2026, 12, 1, tzinfo=UTC))
    try:
        yield store
    finally:
        store.close()


def write(store: Store, resources: list[Json]) -> None:
    """One after the other as plain writes by the server; what the rules of the clinic refuse stays as it was."""
    for resource in resources:
        with suppress(Outcome):
            store.transact([Put(resource, resource["id"])], SYSTEM, operation="load")


def every(report: Report, asked: Asked) -> Iterator[Asked]:
    """As it usually is, grouped by each, by several, and narrowed by each."""
    yield asked
    yield from (replace(asked, by=(group,)) for group in report.groups)
    if report.together > 1:
        yield replace(asked, by=report.groups[-report.together :])
    yield from (replace(asked, filters={name: FILTERS[name]}) for name in report.filters)


def rows(store: Store) -> dict[str, list[Any]]:
    with store.database.connection() as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}


def check(store: Store, asked: Asked) -> int:
    """How many rows all reports have together, once they are what the resources come to."""
    count = 0
    for report in REPORTS.values():
        for one in every(report, asked):
            made = make(store, report, one)
            expected = ALL[report.name](World(store, one), one.by if one.by is not None else report.usual)
            assert (made.rows, made.totals) == expected, (report.name, one)
            count += len(made.rows)
    return count


@given(seed=st.integers(0, 2**32))
# A seed says it all: there is nothing to be made smaller.
@settings(max_examples=3, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
def test_reports_are_what_the_resources_come_to(fresh_database: Callable[[], str], seed: int) -> None:
    chance = Random(seed)
    clinic = Clinic(chance)
    before, after = list(clinic.day()), [each for each in clinic.day() if chance.random() < 0.3]
    chance.shuffle(before)
    chance.shuffle(after)
    with opened(fresh_database()) as store:
        write(store, [*clinic.directory(), *before, *after])
        for each in chance.sample(before, 10):
            with suppress(Outcome):
                store.transact([Delete(each["resourceType"], each["id"])], SYSTEM)
        assert check(store, USUAL) > 50
        check(store, Asked(date(2026, 10, 25), date(2026, 10, 25)))
        kept = rows(store)
        made_anew(store)
        assert rows(store) == kept
        with store.database.connection() as connection:
            for table in TABLES:
                connection.execute(f"TRUNCATE {table}")
        for name in ("ChargeItem", "Invoice", "PaymentReconciliation", "Encounter"):
            store.reindex(lambda _done, _total: None, resource_type=name)
        assert rows(store) == kept


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    with opened(fresh_database()) as made:
        clinic = Clinic(Random(7))
        write(made, [*clinic.directory(), *clinic.day()])
        yield made


def arrived(store: Store, *moments: str, name: str = "clock", place: str = "l0", zone: str = "regular") -> None:
    """Somebody comes at each of these moments."""
    code = {"coding": [{"system": f"{CANON}/CodeSystem/queue-zone", "code": zone}]}
    priority = {"url": f"{CANON}/StructureDefinition/queue-priority", "extension": [{"url": "zone", "valueCodeableConcept": code}]}
    made = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "extension": [priority]}
    made["location"] = [{"location": {"reference": f"Location/{place}"}}]
    for number, at in enumerate(moments):
        history = [{"status": "arrived", "period": {"start": at, "end": "2031-01-01T00:00:00Z"}}]
        store.transact([Put({**made, "id": f"{name}-{number}", "statusHistory": history}, f"{name}-{number}")], SYSTEM)


def test_the_hour_that_there_is_twice_counts_as_one_and_its_day_has_25(fresh_database: Callable[[], str]) -> None:
    with opened(fresh_database()) as store:
        # The last second before, the first of the day, both half past two, and the last and the first of the next.
        moments = ("2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T22:59:59.999Z")
        arrived(store, *moments, "2026-10-25T23:00:00Z")
        made = make(store, REPORTS["arrivals"], Asked(date(2026, 10, 25), date(2026, 10, 25)))
        assert made.rows == [("sunday", 0, 1, 1, 1.0), ("sunday", 2, 2, 1, 2.0), ("sunday", 23, 1, 1, 1.0)]
        assert made.totals == [(None, None, 4, 1, 4.0)]
        # In spring there is no hour from two to three.
        arrived(store, "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z")
        made = make(store, REPORTS["arrivals"], Asked(date(2026, 3, 29), date(2026, 3, 29)))
        assert [row[1] for row in made.rows] == [1, 3]


def test_places_have_minutes_of_their_own(fresh_database: Callable[[], str]) -> None:
    with opened(fresh_database()) as store:
        for n, (place, zone) in enumerate((("l0", "regular"), ("l1", "regular"), ("l0", "follow-up"))):
            arrived(store, "2026-10-25T10:00:00Z", name=f"own-{n}", place=place, zone=zone)
        with store.database.connection() as connection:
            connection.execute("INSERT INTO queue_setting (location, zone, target, maximum) VALUES ('l0', 'regular', 1, 2)")
        made = make(store, REPORTS["waits"], USUAL)
        targets = {(row[0], row[2]): row[9] for row in made.rows}
        assert (targets["l0", "regular"], targets["l1", "regular"], targets["l0", "follow-up"]) == (1, 60, 30)
        # Of several places together there is no one target.
        assert next(row for row in made.totals if row[2] == "regular")[9] is None


@pytest.mark.parametrize("report", REPORTS.values(), ids=list(REPORTS))
def test_a_table_reads_back_as_the_report_and_has_no_formula(store: Store, report: Report) -> None:
    for asked in every(report, USUAL):
        made = make(store, report, asked)
        assert read_back(made, as_csv(made)) == ([*made.rows], [*made.totals])


def read_back(made: Made, text: str) -> tuple[list[Any], list[Any]]:
    import csv
    import io

    head, *lines = csv.reader(io.StringIO(text, newline=""))
    assert head == [column.name for column in made.columns]
    assert text.endswith("\r\n")
    found: tuple[list[Any], list[Any]] = ([], [])
    for number, line in enumerate(lines):
        is_total = number >= len(made.rows)
        cells: list[Any] = []
        for place, (column, cell) in enumerate(zip(made.columns, line, strict=True)):
            if column.kind in {"text", "date"}:
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
            value: Any = cell.removeprefix("'")
            if is_total and place == 0 and value == "total":
                value = ""
            numeric = {"count": int, "minutes": float, "share": float, "number": float}
            cells.append(None if value == "" else numeric.get(column.kind, str)(value))
        found[is_total].append(tuple(cells))
    return found


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("revenue", Asked(LAST, FIRST)),
        ("revenue", Asked(FIRST, FIRST + timedelta(days=MOST_DAYS))),
        ("revenue", replace(USUAL, by=())),
        ("revenue", replace(USUAL, by=("day", "day"))),
        ("revenue", replace(USUAL, by=("day", "month", "template", "doctor"))),
        ("revenue", replace(USUAL, by=("l.day; DROP TABLE invoice_line",))),
        ("waits", replace(USUAL, by=("day",))),
        ("waits", replace(USUAL, filters={"currency": "EUR"})),
        ("receivables", Asked(date(2026, 12, 2), date(2026, 12, 2))),
    ],
)
def test_what_makes_no_sense_is_refused(store: Store, name: str, asked: Asked) -> None:
    with pytest.raises(Outcome) as caught:
        make(store, REPORTS[name], asked)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", REPORTS)
def test_filters_are_values_and_no_part_of_a_statement(store: Store, name: str) -> None:
    hostile = "x' OR 1=1 --"
    report = REPORTS[name]
    for asked in (replace(USUAL, filters={each: hostile}) for each in report.filters):
        assert make(store, report, asked).rows == []


def test_nothing_is_a_report_too(fresh_database: Callable[[], str]) -> None:
    with opened(fresh_database()) as store:
        for report in REPORTS.values():
            for asked in every(report, USUAL):
                assert make(store, report, asked).rows == []


def test_more_rows_than_anybody_reads_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.clinic.reports.report.MOST_ROWS", 3)
    with pytest.raises(Outcome) as caught:
        make(store, REPORTS["revenue"], replace(USUAL, by=("day", "template", "doctor")))
    assert caught.value.category == "too-costly"


def test_a_report_could_not_write_if_it_would(store: Store) -> None:
    def work(desk: Any) -> Any:
        desk.connection.execute("DELETE FROM invoice_line")

    with pytest.raises(Outcome):
        make(store, replace(REPORTS["revenue"], work=work), USUAL)
    assert rows(store)["invoice_line"]
