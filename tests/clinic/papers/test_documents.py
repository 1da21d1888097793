"""`$document`: the paper that each role gets, what is kept of the first one, and copies."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pypdf import PdfReader

from tests.clinic.billing.world import ask, desk, issued, number, template
from tests.clinic.visit.test_release import as_role, report_of
from tests.interactions.conftest import Fhir, token, unique

Json = dict[str, Any]
CANON = "https://clinic-fhir.example.org"


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).replace("\xa0", " ")


def money(value: str) -> Json:
    return {"value": float(value), "currency": "EUR"}


@pytest.fixture
def patient(fhir: Fhir) -> str:
    made = {
        "resourceType": "Patient",
        "name": [{"family": "Rivera", "given": ["Ana"]}],
        "communication": [{"language": {"coding": [{"code": "de"}]}}],
    }
    identity: str = fhir.post("Patient", made)["id"]
    return identity


def invoice_of(fhir: Fhir, patient: str, status: str = "issued") -> str:
    made = {
        "resourceType": "Invoice",
        "status": status,
        "identifier": [{"system": f"{CANON}/sid/invoice-number", "value": unique("INV")}],
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2026-11-30",
        "lineItem": [
            {
                "chargeItemCodeableConcept": {"text": "Consultation"},
                "priceComponent": [{"type": "base", "amount": money("40.5")}, {"type": "tax", "factor": 0.19, "amount": money("7.7")}],
            }
        ],
        "totalNet": money("40.5"),
        "totalGross": money("48.2"),
    }
    identity: str = fhir.post("Invoice", made)["id"]
    return identity


def printed(caller: Fhir, path: str) -> bytes:
    answer = caller("GET", path, headers={"Accept": "application/pdf"})
    assert answer.status_code == 200, answer.data
    assert answer.headers["Content-Type"] == "application/pdf"
    pdf: bytes = answer.data
    return pdf


def papers_of(fhir: Fhir, reference: str) -> list[Json]:
    return [entry["resource"] for entry in fhir.get(f"DocumentReference?related={reference}").get("entry", ())]


def test_the_first_paper_is_kept_with_its_digests_and_the_next_is_the_copy(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    staff = as_role(fhir, "staff")
    first = printed(staff, f"Invoice/{invoice}/$document")
    assert "48,20" in text_of(first)
    assert "KOPIE" not in text_of(first).upper()
    (document,) = papers_of(fhir, f"Invoice/{invoice}")
    assert document["masterIdentifier"]["value"] == hashlib.sha256(first).hexdigest()
    attachment = document["content"][0]["attachment"]
    assert attachment["hash"] == base64.b64encode(hashlib.sha1(first).digest()).decode()
    assert attachment["language"] == "de"
    assert fhir("GET", attachment["url"]).data == first
    again = printed(staff, f"Invoice/{invoice}/$document")
    assert "KOPIE" in text_of(again).upper()
    assert again == printed(as_role(fhir, "patient", patient), f"Invoice/{invoice}/$document")
    assert len(papers_of(fhir, f"Invoice/{invoice}")) == 1


def test_a_patient_gets_their_own_issued_invoices_alone(fhir: Fhir, patient: str) -> None:
    draft, issued = invoice_of(fhir, patient, "draft"), invoice_of(fhir, patient)
    owner, other = as_role(fhir, "patient", patient), as_role(fhir, "patient", "somebody-else")
    assert owner("GET", f"Invoice/{draft}/$document").status_code == 404
    assert other("GET", f"Invoice/{issued}/$document").status_code == 404
    assert "Rivera" in text_of(printed(owner, f"Invoice/{issued}/$document"))


def test_a_draft_says_so_and_is_not_kept(fhir: Fhir, patient: str) -> None:
    draft = invoice_of(fhir, patient, "draft")
    assert "ENTWURF" in text_of(printed(as_role(fhir, "staff"), f"Invoice/{draft}/$document")).upper()
    assert papers_of(fhir, f"Invoice/{draft}") == []


def test_of_many_at_once_one_has_the_first(fhir: Fhir, patient: str) -> None:
    invoice, got = invoice_of(fhir, patient), []
    callers = [threading.Thread(target=lambda: got.append(printed(as_role(fhir, "staff"), f"Invoice/{invoice}/$document"))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted("KOPIE" in text_of(pdf).upper() for pdf in got) == [False, True, True, True]


def test_a_head_gives_nothing_out(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    assert as_role(fhir, "staff")("HEAD", f"Invoice/{invoice}/$document").status_code == 200
    assert papers_of(fhir, f"Invoice/{invoice}") == []


def test_another_language_or_paper_is_a_copy_too(fhir: Fhir, patient: str) -> None:
    invoice, staff = invoice_of(fhir, patient), as_role(fhir, "staff")
    printed(staff, f"Invoice/{invoice}/$document")
    other = printed(staff, f"Invoice/{invoice}/$document?language=en&paper=letter")
    assert "COPY" in text_of(other).upper()
    assert "€48.20" in text_of(other)
    assert PdfReader(io.BytesIO(other)).pages[0].mediabox.width == 612


def test_what_is_held_back_is_on_no_paper_of_its_patient_nor_kept(fhir: Fhir) -> None:
    patient, report, _, _ = report_of(fhir)
    owner, doctor = as_role(fhir, "patient", patient), as_role(fhir, "doctor")
    doctor.post(f"DiagnosticReport/{report}/$hold-release", None, 200)
    assert owner("GET", f"DiagnosticReport/{report}/$document").status_code == 404
    assert "Potassium" in text_of(printed(doctor, f"DiagnosticReport/{report}/$document"))
    assert papers_of(fhir, f"DiagnosticReport/{report}") == []


def test_a_kept_paper_is_closed_to_its_patient_when_its_report_is_held_back(fhir: Fhir) -> None:
    patient, report, _, _ = report_of(fhir)
    owner, doctor = as_role(fhir, "patient", patient), as_role(fhir, "doctor")
    printed(doctor, f"DiagnosticReport/{report}/$document")
    (document,) = papers_of(fhir, f"DiagnosticReport/{report}")
    assert owner("GET", f"DocumentReference/{document['id']}").status_code == 200
    doctor.post(f"DiagnosticReport/{report}/$hold-release", None, 200)
    assert owner("GET", f"DocumentReference/{document['id']}").status_code == 404
    assert owner("GET", f"DiagnosticReport/{report}/$document").status_code == 404


def observation_of(fhir: Fhir, patient: str, value: float, at: str, **more: Any) -> str:
    quantity = {"unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}], "text": "Potassium"},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": at,
        "valueQuantity": {"value": value, **quantity},
        "referenceRange": [{"low": {"value": 3.5, **quantity}, "high": {"value": 5.1, **quantity}}],
    }
    identity: str = fhir.post("Observation", made | more)["id"]
    return identity


def test_a_copy_is_made_of_what_its_caller_may_see(fhir: Fhir, patient: str) -> None:
    held = {"meta": {"security": [{"system": f"{CANON}/CodeSystem/release", "code": "held"}]}}
    earlier = observation_of(fhir, patient, 4.25, "2026-01-02")
    result = observation_of(fhir, patient, 5.75, "2026-11-02")
    report = fhir.post(
        "DiagnosticReport",
        {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": {"text": "Blood tests"},
            "subject": {"reference": f"Patient/{patient}"},
            "result": [{"reference": f"Observation/{result}"}],
        },
    )["id"]
    doctor, owner = as_role(fhir, "doctor"), as_role(fhir, "patient", patient)
    first = text_of(printed(doctor, f"DiagnosticReport/{report}/$document"))
    assert "4,25 mmol/L" in first
    assert "5,75" in first
    assert printed(doctor, f"DiagnosticReport/{report}/$document") == printed(owner, f"DiagnosticReport/{report}/$document")
    found = fhir.get(f"Observation/{earlier}")
    fhir.put(f"Observation/{earlier}", found | held)
    theirs = text_of(printed(owner, f"DiagnosticReport/{report}/$document"))
    assert "5,75" in theirs
    assert "4,25" not in theirs
    assert "4,25" in text_of(printed(doctor, f"DiagnosticReport/{report}/$document"))


def test_a_slip_has_all_medicines_of_its_group(fhir: Fhir, patient: str) -> None:
    group = {"system": "http://x.example", "value": unique("R")}
    doctor = fhir.post("Practitioner", {"resourceType": "Practitioner", "name": [{"family": "Lindqvist"}]})["id"]

    def prescribed(text: str, **more: Json) -> str:
        made = {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": text},
            "subject": {"reference": f"Patient/{patient}"},
            "requester": {"reference": f"Practitioner/{doctor}"},
        }
        identity: str = fhir.post("MedicationRequest", made | more)["id"]
        return identity

    first = prescribed("Ramipril 5 mg", groupIdentifier=group)
    prescribed("Metformin 500 mg", groupIdentifier=group)
    prescribed("Salbutamol", groupIdentifier=group | {"value": "another"})
    text = text_of(printed(as_role(fhir, "patient", patient), f"MedicationRequest/{first}/$document"))
    assert "Ramipril 5 mg" in text
    assert "Metformin 500 mg" in text
    assert "Salbutamol" not in text
    assert "Lindqvist" in text
    (document,) = papers_of(fhir, f"MedicationRequest/{first}")
    prescribed("Paracetamol", groupIdentifier=group)
    grown = text_of(printed(as_role(fhir, "doctor"), f"MedicationRequest/{first}/$document"))
    assert "Paracetamol" in grown
    assert "KOPIE" not in grown.upper()
    assert document["status"] == "current"


def test_a_visit_its_token_and_an_appointment_have_papers(fhir: Fhir, patient: str) -> None:
    number = {"system": f"{CANON}/sid/queue-token", "value": "R-017"}
    visit = fhir.post(
        "Encounter",
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "identifier": [number],
            "subject": {"reference": f"Patient/{patient}"},
            "reasonCode": [{"text": "Cough"}],
        },
    )["id"]
    fhir.post(
        "Condition",
        {
            "resourceType": "Condition",
            "code": {"text": "Bronchitis"},
            "subject": {"reference": f"Patient/{patient}"},
            "encounter": {"reference": f"Encounter/{visit}"},
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        },
    )
    booked = fhir.post(
        "Appointment",
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2031-12-20T09:00:00Z",
            "end": "2031-12-20T09:20:00Z",
            "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        },
    )["id"]
    owner, staff = as_role(fhir, "patient", patient), as_role(fhir, "staff")
    assert "Bronchitis" in text_of(printed(owner, f"Encounter/{visit}/$document"))
    assert "Bronchitis" not in text_of(printed(staff, f"Encounter/{visit}/$document"))
    slip = text_of(printed(staff, f"Encounter/{visit}/$document?kind=token"))
    assert "R-017" in slip
    assert "Rivera" not in slip
    assert "20. Dezember 2031, 10:00" in text_of(printed(owner, f"Appointment/{booked}/$document"))


def test_a_payment_has_a_receipt(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    paid = fhir.post(
        "PaymentReconciliation",
        {
            "resourceType": "PaymentReconciliation",
            "status": "active",
            "created": "2026-11-30",
            "paymentDate": "2026-11-30",
            "paymentAmount": money("48.2"),
            "detail": [{"type": {"text": "payment"}, "request": {"reference": f"Invoice/{invoice}"}, "amount": money("48.2")}],
        },
    )["id"]
    text = text_of(printed(as_role(fhir, "staff"), f"PaymentReconciliation/{paid}/$document"))
    assert "Quittung" in text
    assert "48,20 €" in text
    # A number as long as that is broken into two lines.
    assert fhir.get(f"Invoice/{invoice}")["identifier"][0]["value"] in text.replace("\n", "")


def test_a_receipt_shows_all_invoices_what_was_rounded_and_the_change(fhir: Fhir, patient: str) -> None:
    bills = [issued(fhir, patient, template(amount, "CHF", tax=None)) for amount in ("12.31", "20.02")]
    given = ask(invoice=[f"Invoice/{each['id']}" for each in bills], method="cash", tendered={"value": Decimal(50), "currency": "CHF"})
    paid = desk(fhir).post("Invoice/$pay", given, 200)["id"]
    owner = as_role(fhir, "patient", patient)
    text = text_of(printed(owner, f"PaymentReconciliation/{paid}/$document"))
    for expected in ("Erhaltener Betrag", "Bar", "32,35", "12,31", "20,02", "Rundung (Bargeld)", "0,02", "Gegeben", "50,00", "Rückgeld", "17,65"):
        assert expected in text
    assert all(number(each) in text.replace("\n", "") for each in bills)
    desk(fhir, "ann").post(f"Invoice/{bills[0]['id']}/$refund", ask(amount={"value": Decimal(5), "currency": "CHF"}, reason="zu viel"), 202)
    back = desk(fhir, "bob").post(f"Invoice/{bills[0]['id']}/$approve-refund", None, 200)["id"]
    text = text_of(printed(owner, f"PaymentReconciliation/{back}/$document"))
    assert "Zurückgegebener Betrag" in text
    assert "Dankend erhalten" not in text


def scanned(fhir: Fhir, reference: str) -> Any:
    (document,) = papers_of(fhir, reference)
    return fhir.app.test_client(use_cookies=False).get(f"/paper/{document['identifier'][0]['value']}")


def test_a_code_tells_whoever_has_it_what_stands_on_the_paper(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    printed(as_role(fhir, "staff"), f"Invoice/{invoice}/$document")
    page = scanned(fhir, f"Invoice/{invoice}")
    assert page.status_code == 200
    assert "it is valid" in page.text
    assert "48.2 EUR" in page.text
    assert "A. R." in page.text
    assert "Rivera" not in page.text


def test_a_code_tells_what_is_due_of_an_invoice_now(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    printed(as_role(fhir, "staff"), f"Invoice/{invoice}/$document")
    assert "<dt>To be paid now</dt><dd>48.2 EUR</dd>" in scanned(fhir, f"Invoice/{invoice}").text
    paid = [{"name": "method", "valueCode": "cash"}, {"name": "amount", "valueDecimal": 40}]
    as_role(fhir, "staff").post(f"Invoice/{invoice}/$pay", {"resourceType": "Parameters", "parameter": paid}, 200)
    assert "<dd>8.20 EUR</dd>" in scanned(fhir, f"Invoice/{invoice}").text


def test_an_iban_whose_check_digits_do_not_fit_is_refused(fhir: Fhir) -> None:
    account = {"system": "urn:iso:std:iso:13616", "value": "DE89 3704 0044 0532 0130 01"}
    answer = fhir.post("Organization", {"resourceType": "Organization", "name": "Hill", "identifier": [account]}, 422)
    assert answer["issue"][0]["expression"] == ["Organization.identifier[0].value"]
    fhir.post("Organization", {"resourceType": "Organization", "name": "Hill", "identifier": [account | {"value": "DE89 3704 0044 0532 0130 00"}]})


def test_a_code_tells_of_a_prescription_that_was_stopped(fhir: Fhir, patient: str) -> None:
    made = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": "<b>Ramipril</b>"},
        "subject": {"reference": f"Patient/{patient}"},
    }
    written = fhir.post("MedicationRequest", made)
    printed(as_role(fhir, "doctor"), f"MedicationRequest/{written['id']}/$document")
    assert "&lt;b&gt;Ramipril" in scanned(fhir, f"MedicationRequest/{written['id']}").text
    fhir.put(f"MedicationRequest/{written['id']}", written | {"status": "stopped"})
    assert "does not count any more" in scanned(fhir, f"MedicationRequest/{written['id']}").text


@pytest.mark.parametrize("code", ["A" * 16, "x", "A" * 1_000, "%00" * 16, "..%2f..%2fetc"])
def test_a_code_that_was_made_up_leads_nowhere(fhir: Fhir, code: str) -> None:
    assert fhir.app.test_client(use_cookies=False).get(f"/paper/{code}").status_code == 404


def test_who_sees_a_part_prints_no_first_paper(fhir: Fhir, patient: str) -> None:
    invoice = invoice_of(fhir, patient)
    app = replace(fhir, token=token(scope="system/Invoice.rs system/Organization.rs"))
    theirs = text_of(printed(app, f"Invoice/{invoice}/$document"))
    assert "Rivera" not in theirs
    assert "COPY" in theirs.upper()
    assert papers_of(fhir, f"Invoice/{invoice}") == []
    whole = text_of(printed(as_role(fhir, "staff"), f"Invoice/{invoice}/$document"))
    assert "Rivera" in whole
    assert "KOPIE" not in whole.upper()
    assert "Rivera" not in text_of(printed(app, f"Invoice/{invoice}/$document"))


@pytest.mark.parametrize("query", ["paper=a5", "kind=token", "language=" + "x" * 40, "other=1"])
def test_what_is_not_understood_is_refused(fhir: Fhir, patient: str, query: str) -> None:
    answer = as_role(fhir, "staff")("GET", f"Invoice/{invoice_of(fhir, patient)}/$document?{query}", headers={"Accept": "application/pdf"})
    assert answer.status_code == 400
    assert answer.get_json()["resourceType"] == "OperationOutcome"
