"""`$statement`: what was booked between two days, in order, with what is due after each; the ledger's own sums, read back from the paper."""

from __future__ import annotations

import io
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pypdf import PdfReader

from fhir_server.search import SYSTEM
from tests.clinic.billing.world import Json, ask, balance, desk, issued, number, person, template
from tests.clinic.papers.test_documents import papers_of, printed, scanned, text_of
from tests.interactions.conftest import Fhir

TODAY = datetime.now(ZoneInfo("Europe/Berlin")).date()


def statement(caller: Fhir, of: str, query: str = "language=en") -> str:
    return text_of(printed(caller, f"{of}/$statement?{query}"))


def do(fhir: Fhir, invoice: Json, operation: str, status: int = 200, **given: Any) -> Json:
    found: Json = desk(fhir).post(f"Invoice/{invoice['id']}/${operation}", ask(**given), status)
    return found


def moved_back(fhir: Fhir, invoice: Json, days: int) -> None:
    """As though all of an invoice had been booked some days ago."""
    with fhir.app.extensions["store"].database.connection() as connection:
        connection.execute("UPDATE ledger_entry SET at = at - make_interval(days => %s) WHERE invoice = %s", (days, invoice["id"]))


@pytest.fixture
def patient(fhir: Fhir) -> str:
    return person(fhir, name=[{"family": "Rivera", "given": ["Ana"]}])


def test_every_entry_stands_in_order_with_what_is_due_after_it(fhir: Fhir, patient: str) -> None:
    first, second = issued(fhir, patient), issued(fhir, patient, template("50"))
    do(fhir, first, "pay", method="cash", amount=Decimal(70))
    note = do(fhir, second, "credit", 201, amount=Decimal(15), reason="Goodwill")
    do(fhir, first, "write-off", amount=Decimal("0.50"), reason="Small")
    text = statement(desk(fhir), f"Patient/{patient}")
    lines = [
        f"Invoice {number(first)} 120.00 120.00",
        f"Invoice {number(second)} 60.00 180.00",
        f"Payment, Cash {number(first)} -70.00 110.00",
        f"Credit note, {number(note)} {number(second)} -15.00 95.00",
        f"Written off {number(first)} -0.50 94.50",
        "Balance €94.50",
    ]
    places = [text.replace("\n", " ").find(line) for line in lines]
    assert places == sorted(places), text
    assert -1 not in places, text
    assert "Balance brought forward 0.00" in text
    assert sum(Decimal(balance(fhir, each)["due"]) for each in (first, second)) == Decimal("94.50")


def test_what_was_booked_before_is_brought_forward_and_ages(fhir: Fhir, patient: str) -> None:
    old, older, new = (issued(fhir, patient, template(amount, tax=None)) for amount in ("10", "20", "40"))
    moved_back(fhir, old, 45)
    moved_back(fhir, older, 200)
    text = statement(desk(fhir), f"Patient/{patient}", f"language=en&start={TODAY - timedelta(days=7)}")
    assert "Balance brought forward 30.00" in text
    assert (number(old) in text, number(new) in text) == (False, True)
    assert "Balance €70.00" in text
    assert "40.00\n10.00\n0.00\n20.00" in text or "40.00 10.00 0.00 20.00" in text
    before = statement(desk(fhir), f"Patient/{patient}", f"language=en&end={TODAY - timedelta(days=100)}")
    assert "Balance €20.00" in before
    assert number(old) not in before


def test_all_sums_are_those_of_the_ledger_in_each_currency(fhir: Fhir, patient: str) -> None:
    euros, yen = issued(fhir, patient), issued(fhir, patient, template("1500", "JPY", tax=None))
    do(fhir, yen, "pay", method="card", amount={"value": 500, "currency": "JPY"})
    do(fhir, euros, "pay", method="transfer", amount=Decimal("130.25"))
    text = statement(desk(fhir), f"Patient/{patient}", "language=de&paper=letter")
    with fhir.app.extensions["store"].snapshot(SYSTEM) as db:
        sums = dict(
            db.connection.execute(
                "SELECT currency, sum(amount) FROM ledger_entry WHERE invoice = ANY(%s) GROUP BY currency", ([euros["id"], yen["id"]],)
            ).fetchall()
        )
    assert sums == {"EUR": Decimal("-10.25"), "JPY": Decimal(1000)}
    for words in ("Kontoauszug", "Saldo -10,25 €", "Guthaben", "Zahlung, Überweisung", "Zahlung, Karte", "1.000 ¥"):
        assert words in text, words


def test_invoices_of_other_systems_begin_with_their_total(fhir: Fhir, patient: str) -> None:
    made = {
        "resourceType": "Invoice",
        "subject": {"reference": f"Patient/{patient}"},
        "date": str(TODAY - timedelta(days=3)),
        "totalGross": {"value": Decimal("33.10"), "currency": "EUR"},
    }
    theirs = fhir.post("Invoice", made | {"status": "issued", "identifier": [{"system": "urn:x", "value": "OLD-1"}]})
    fhir.post("Invoice", made | {"status": "balanced", "identifier": [{"system": "urn:x", "value": "OLD-2"}]})
    fhir.post("Invoice", made | {"status": "cancelled"})
    do(fhir, theirs, "pay", method="cash", amount=Decimal("3.10"))
    text = statement(desk(fhir), f"Patient/{patient}").replace("\n", " ")
    assert re.search(r"Settled before OLD-2 -33.10 (33.10|0.00)", text)
    assert "Balance €30.00" in text


def test_an_account_has_what_is_on_it_alone(fhir: Fhir, patient: str) -> None:
    one, other = issued(fhir, patient), issued(fhir, patient)
    account = fhir.post("Account", {"resourceType": "Account", "status": "active", "name": "Knee", "subject": [{"reference": f"Patient/{patient}"}]})
    with_account = fhir.post(
        "Invoice",
        {
            "resourceType": "Invoice",
            "status": "issued",
            "subject": {"reference": f"Patient/{patient}"},
            "account": {"reference": f"Account/{account['id']}"},
            "date": str(TODAY),
            "identifier": [{"system": "urn:x", "value": "ACC-1"}],
            "totalGross": {"value": 7, "currency": "EUR"},
        },
    )
    text = statement(desk(fhir), f"Account/{account['id']}")
    assert with_account["identifier"][0]["value"] in text
    assert ("Knee" in text, "Rivera" in text, "Balance €7.00" in text) == (True, True, True)
    assert not any(number(each) in text for each in (one, other))


def test_the_desk_and_the_patient_themself_get_the_same_paper_and_others_none(fhir: Fhir, patient: str) -> None:
    do(fhir, issued(fhir, patient), "pay", method="cash", amount=Decimal(20))
    first = printed(desk(fhir), f"Patient/{patient}/$statement")
    assert "COPY" not in text_of(first).upper()
    again = printed(desk(fhir), f"Patient/{patient}/$statement")
    own = printed(desk(fhir, "p", "patient", patient), f"Patient/{patient}/$statement")
    assert again == own
    assert "COPY" in text_of(own).upper()
    assert desk(fhir, "p", "patient", "somebody-else")("GET", f"Patient/{patient}/$statement").status_code == 404
    assert desk(fhir, "d", "doctor")("GET", f"Patient/{patient}/$statement").status_code == 403


def test_other_days_or_another_entry_are_another_paper(fhir: Fhir, patient: str) -> None:
    invoice = issued(fhir, patient)
    of, staff = f"Patient/{patient}", desk(fhir)
    printed(staff, f"{of}/$statement")
    assert "COPY" not in statement(staff, of, f"start={TODAY - timedelta(days=1)}").upper()
    do(fhir, invoice, "pay", method="cash", amount=Decimal(20))
    assert "COPY" not in statement(staff, of, "").upper()
    assert len(papers_of(fhir, of)) == 3


def test_the_code_of_a_statement_tells_its_days_and_its_end(fhir: Fhir, patient: str) -> None:
    issued(fhir, patient)
    printed(desk(fhir), f"Patient/{patient}/$statement?start={TODAY}")
    page = scanned(fhir, f"Patient/{patient}")
    assert "Statement of account" in page.text
    assert f"{TODAY} – {TODAY}, 120.00 EUR" in page.text
    assert ("it is valid" in page.text, "Rivera" in page.text) == (True, False)


def test_a_statement_is_tagged_and_says_when_there_is_nothing(fhir: Fhir, patient: str) -> None:
    pdf = PdfReader(io.BytesIO(printed(desk(fhir), f"Patient/{patient}/$statement")))
    root: Any = pdf.trailer["/Root"]
    assert str(root["/MarkInfo"]["/Marked"]) == "True"
    assert "Nothing was booked" in pdf.pages[0].extract_text()


@pytest.mark.parametrize("query", ["start=yesterday", "end=2026", "start=9999-01-01", "start=2020-02-01&end=2020-01-01", "kind=token", "paper=a5"])
def test_what_is_not_understood_is_refused(fhir: Fhir, patient: str, query: str) -> None:
    assert desk(fhir)("GET", f"Patient/{patient}/$statement?{query}").status_code == 400
