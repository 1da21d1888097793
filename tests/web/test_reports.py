"""Reports as pages: for administrators who are signed in, with nothing of a name taken for markup, and a trace of each reading."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.clinic.reports import REPORTS, Column, Made
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from fhir_server.web.reports import bars

from .conftest import Clinic
from .test_pages import Person

DAYS = "from=2032-03-01&to=2032-03-31"


@pytest.fixture
def admin(clinic: Clinic) -> Person:
    amount = {"value": Decimal("12.00"), "currency": "USD"}
    charge = {"resourceType": "ChargeItem", "status": "billable", "code": {"text": "x"}, "subject": {"reference": "Patient/x"}}
    line = {"chargeItemReference": {"reference": "ChargeItem/paged"}, "priceComponent": [{"type": "base", "amount": amount}]}
    invoice = {"resourceType": "Invoice", "status": "issued", "date": "2032-03-30", "lineItem": [line], "totalNet": amount, "totalGross": amount}
    made: list[dict[str, Any]] = [
        {"resourceType": "Practitioner", "id": "paged", "name": [{"text": "<b>Moreau</b>"}]},
        {**charge, "id": "paged", "performer": [{"actor": {"reference": "Practitioner/paged"}}]},
        {**invoice, "id": "paged"},
    ]
    clinic.store.transact([Put(each, each["id"]) for each in made], SYSTEM, operation="load")
    person = Person(clinic)
    person.sign_in(clinic.account("admin"))
    return person


def test_an_administrator_looks_at_each(admin: Person) -> None:
    assert "/reports" in admin.get("/").text
    text = admin.get("/reports").text
    for name, report in REPORTS.items():
        assert f'href="/reports/{name}"' in text
        page = admin.get(f"/reports/{name}")
        assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert report.title in page.text
        assert "script" not in page.text
        assert " style=" not in page.text
    admin.clinic.store.flush_notes()
    with admin.clinic.store.database.connection() as connection:
        rows = connection.execute("SELECT DISTINCT resource FROM audit_event WHERE type = 'report' AND kind = 'read'").fetchall()
    assert {name for (name,) in rows} >= set(REPORTS)


def test_a_page_shows_rows_totals_and_bars_and_takes_a_name_for_text(admin: Person) -> None:
    text = admin.get(f"/reports/revenue?{DAYS}&by=doctor").text
    assert "&lt;b&gt;Moreau&lt;/b&gt;" in text
    assert "<b>" not in text
    assert text.count("12.00") >= 3
    assert '<rect width="100.0"' in text
    assert "Total" in text
    table = admin.get(f"/reports/revenue?{DAYS}&by=doctor&format=csv")
    assert (table.mimetype, table.headers["Content-Disposition"]) == ("text/csv", 'attachment; filename="revenue-2032-03-31.csv"')
    assert table.text.splitlines()[1] == "Practitioner/paged,<b>Moreau</b>,USD,1,0,12.00,0.00,12.00,0.00,12.00"
    assert "There is nothing in this time." in admin.get("/reports/revenue?from=2033-03-01&to=2033-03-02").text


@pytest.mark.parametrize(
    "query", ["from=2032-03-02&to=2032-03-01", "from=x", "from=2032-02-30", "to=9999-12-31", "by=rid", "by=%3Cb%3E", "by=day,day"]
)
def test_what_makes_no_sense_is_said_to_be_wrong(admin: Person, query: str) -> None:
    page = admin.get(f"/reports/revenue?{query}")
    assert page.status_code == 400
    assert "<b>" not in page.text


def test_nobody_else_sees_them(clinic: Clinic, person: Person) -> None:
    for path in ("/reports", "/reports/revenue"):
        assert person.get(path).headers["Location"] == f"/sign-in?next={path}"
    person.sign_in(clinic.account("doctor", practitioner="d7"))
    assert 'href="/reports"' not in person.get("/").text
    assert [person.get(path).status_code for path in ("/reports", "/reports/revenue", "/reports/nothing")] == [403, 403, 403]


def test_bars_are_as_long_as_their_currency_allows() -> None:
    columns = (Column("currency", "text", ""), Column("gross", "money", ""))
    made = Made(columns, [("EUR", "50"), ("EUR", "100"), ("JPY", "9000"), ("EUR", "-3"), ("KWD", "0")], [])
    assert bars(made) == [50.0, 100.0, 100.0, 0.0, None]


@pytest.fixture
def person(clinic: Clinic) -> Person:
    return Person(clinic)
