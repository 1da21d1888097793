"""Reports over HTTP: for administrators alone, as JSON and as a table that says the same, and never without a trace."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.clinic.reports import REPORTS
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from tests.admin.conftest import Desk, problem
from tests.web.conftest import Clinic

DAYS = "from=2031-03-01&to=2031-03-31"


@pytest.fixture(scope="module", autouse=True)
def world(shared: Clinic) -> None:
    """An invoice, its payment, and a doctor with the name of a formula."""
    amount = {"value": Decimal("12.00"), "currency": "USD"}
    line = {"chargeItemReference": {"reference": "ChargeItem/reported"}, "priceComponent": [{"type": "base", "amount": amount}]}
    made: list[dict[str, Any]] = [
        {"resourceType": "Practitioner", "id": "reported", "name": [{"text": "=1+2"}]},
        {
            "resourceType": "ChargeItem",
            "id": "reported",
            "status": "billable",
            "code": {"text": "x"},
            "subject": {"reference": "Patient/x"},
            "performer": [{"actor": {"reference": "Practitioner/reported"}}],
        },
        {
            "resourceType": "Invoice",
            "id": "reported",
            "status": "issued",
            "date": "2031-03-30",
            "lineItem": [line],
            "totalNet": amount,
            "totalGross": amount,
        },
    ]
    shared.store.transact([Put(each, each["id"]) for each in made], SYSTEM, operation="load")


def test_each_report_is_listed_with_what_it_means_and_is_where_it_is_said_to_be(desk: Desk) -> None:
    listed = desk.ok("GET", "/reports")["items"]
    assert [each["name"] for each in listed] == list(REPORTS)
    for each in listed:
        assert re.search(r"[A-Z][A-Za-z]+\.[a-z]|status", each["meaning"])
        found = desk.ok("GET", each["address"])
        assert (found["report"], found["by"], found["zone"]) == (each["name"], each["usual"], desk.clinic.store.registry.zone.key)
        assert {column["name"] for column in found["columns"]} <= {column["name"] for column in each["columns"]}


def test_a_table_says_what_the_json_says(desk: Desk) -> None:
    path = f"/reports/revenue?{DAYS}&by=doctor,day"
    found = desk.ok("GET", path)
    assert (found["from"], found["to"], found["filters"]) == ("2031-03-01", "2031-03-31", {})
    (row,) = found["rows"]
    assert (row["doctor"], row["name"], row["day"], row["gross"], row["invoices"]) == ("Practitioner/reported", "=1+2", "2031-03-30", "12.00", 1)
    for answer in (
        desk("GET", path, Accept="text/csv"),
        desk("GET", f"{path}&format=csv"),
        desk("GET", f"{path}&format=csv", Accept="application/json"),
    ):
        assert (answer.status_code, answer.mimetype, answer.headers["Cache-Control"]) == (200, "text/csv", "no-store")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="revenue-2031-03-01-to-2031-03-31.csv"'
        head, line, total = csv.reader(io.StringIO(answer.data.decode(), newline=""))
        assert head == [column["name"] for column in found["columns"]]
        assert line == [f"'{row['name']}" if name == "name" else str(row[name]) for name in head]
        assert total == ["total", "", "", *("" if (cell := found["totals"][0][name]) is None else str(cell) for name in head[3:])]
    assert desk("GET", f"{path}&format=json", Accept="text/csv").mimetype == "application/json"
    assert desk("GET", path, Accept="text/csv;q=0.1, application/json").mimetype == "application/json"


def test_a_report_may_be_narrowed(desk: Desk) -> None:
    for query, count in (("practitioner=reported", 1), ("practitioner=other", 0), ("currency=USD", 1), ("currency=EUR", 0)):
        assert len(desk.ok("GET", f"/reports/revenue?{DAYS}&{query}")["rows"]) == count


@pytest.mark.parametrize("query", [
    "from=2031-03-02&to=2031-03-01", "from=2031-02-30", "from=20310301", "from=2031-03-01T00:00:00Z", "to=0001-01-01", "to=9999-12-31",
    "from=1900-01-01",
    "by=", "by=day,day", "by=day,", "by=rid", "by=day,month,template,doctor", "by=day;DROP%20TABLE%20invoice_line", "by=%27", "at=2031-03-01",
    "currency=usd", "currency=%27%27%27", "currency=", "practitioner=a%20b", "practitioner=%27%20OR%201=1--", "format=xml", "limit=5", "location=l1",
    "from=2031-03-01&from=2031-03-02x", "by=day%00", "to=%D9%A2%D9%A0%D9%A3%D9%A1-03-01",
])  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_its_place(desk: Desk, query: str) -> None:
    problem(desk("GET", f"/reports/revenue?{query}"), 400)


def test_there_is_no_other_report_and_none_to_be_written(desk: Desk) -> None:
    problem(desk("GET", "/reports/salaries"), 404)
    assert desk("POST", "/reports/revenue", {}).status_code == 405
    problem(desk("GET", "/reports/receivables?at=2199-01-01"), 400)


def test_whoever_reads_a_report_leaves_an_event(desk: Desk) -> None:
    desk.ok("GET", f"/reports/waits?{DAYS}&location=l7")
    desk.clinic.store.flush_notes()
    with desk.clinic.store.database.connection() as connection:
        found = connection.execute(
            "SELECT kind, resource, query, cardinality(patients) FROM audit_event WHERE type = 'report' ORDER BY id DESC LIMIT 1"
        ).fetchall()
    assert found == [("read", "waits", f"/admin/api/v1/reports/waits?{DAYS}&location=l7", 0)]
