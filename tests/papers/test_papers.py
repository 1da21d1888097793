"""Papers, read back from their PDF: the right numbers, names, pages and marks, for eyes and for programs that read aloud."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.outcome import Outcome
from fhir_server.papers.wording import languages
from tests.papers.conftest import CANON, SUBJECT, Json, invoice, line, money, observation, pdf_of, read, record, text_of

VAT: Json = {"type": "tax", "factor": Decimal("0.19"), "code": {"text": "VAT"}}
REQUEST: Json = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "requester": {"reference": "Practitioner/d"}, **SUBJECT}
MILD: Json = REQUEST | {"medicationCodeableConcept": {"text": "Amoxicillin 500 mg"}, "authoredOn": "2026-11-30"}


def report(*results: Json, **more: Any) -> Json:
    front = {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": {"text": "Blood tests"}, **SUBJECT}
    return front | {"result": [{"reference": f"Observation/{each['id']}"} for each in results]} | more


def test_an_invoice_has_its_number_lines_taxes_and_totals() -> None:
    discount = {"type": "discount", "factor": Decimal("0.1"), "code": {"text": "Family"}, "amount": money("4.00")}
    lines = (line("Consultation", "40.00", discount, VAT | {"amount": money("6.84")}), line("Dressing", "8.50", VAT | {"amount": money("1.62")}))
    parts = [{"url": "paid", "valueMoney": money("10.00")}, {"url": "due", "valueMoney": money("42.96")}]
    paid = {"url": f"{CANON}/StructureDefinition/invoice-balance", "extension": parts}
    made = invoice(*lines, totalNet=money("44.50"), totalGross=money("52.96"), extension=[paid])
    text = text_of(pdf_of("invoice", record(made)))
    for words in ("INV-2026-000012", "Nov 30, 2026", "Consultation", "36.00", "42.84", "Discount, Family (10 %): -4.00", "VAT 19 % 8.46"):
        assert words in text, words
    for words in ("Net total 44.50", "Total €52.96", "Paid -10.00", "Amount due €42.96", "Hillside Practice", "DE 811 569 869", "Ana Rivera"):
        assert words in text, words


def test_an_invoice_says_what_a_payer_pays_and_what_is_left() -> None:
    coverage = {"url": "coverage", "valueReference": {"reference": "Coverage/c", "display": "Hill\u202eHealth"}}
    share = {"url": f"{CANON}/StructureDefinition/payer-share", "extension": [coverage, {"url": "amount", "valueMoney": money("96.00")}]}
    parts = [{"url": "paid", "valueMoney": money("4.00")}, {"url": "due", "valueMoney": money("20.00")}]
    paid = {"url": f"{CANON}/StructureDefinition/invoice-balance", "extension": parts}
    made = invoice(line("Visit", "120.00"), totalNet=money("120.00"), totalGross=money("120.00"), extension=[share, paid])
    text = text_of(pdf_of("invoice", record(made)))
    for words in ("Total €120.00", "Paid by insurance (HillHealth) -96.00", "Your share €24.00", "Paid -4.00", "Amount due €20.00"):
        assert words in text, words
    assert "Ihr Anteil" in text_of(pdf_of("invoice", record(made), "de"))


@pytest.mark.parametrize(
    ("language", "currency", "words"),
    [("de", "EUR", "1.234,50 €"), ("en", "EUR", "€1,234.50"), ("en", "JPY", "¥1,235"), ("en", "KWD", "KWD1,234.500"), ("de-AT", "EUR", "1.234,50")],
)
def test_money_is_written_as_the_language_and_the_currency_have_it(language: str, currency: str, words: str) -> None:
    value = Decimal("1234.5") if currency != "JPY" else Decimal(1235)
    text = text_of(pdf_of("invoice", record(invoice(totalGross={"value": value, "currency": currency})), language))
    assert words in text.replace("€ 1.234,50", "1.234,50")


def test_a_credit_note_is_negative_and_names_its_invoice() -> None:
    credits_it = {"url": f"{CANON}/StructureDefinition/credits-invoice", "valueReference": {"reference": "Invoice/o", "display": "INV-2026-000009"}}
    discount = {"type": "discount", "amount": money("-4.00")}
    kind = {"coding": [{"code": "credit-note"}]}
    made = invoice(line("Consultation", "-40.00", discount), totalGross=money("-36.00"), type=kind, extension=[credits_it])
    text = text_of(pdf_of("invoice", record(made)))
    assert "Credit note" in text
    assert "INV-2026-000009" in text
    assert "-36.00 -36.00" in text


@pytest.mark.parametrize(("status", "mark"), [("draft", "DRAFT"), ("cancelled", "CANCELLED"), ("issued", None)])
def test_what_does_not_count_says_so(status: str, mark: str | None) -> None:
    text = text_of(pdf_of("invoice", record(invoice(status=status)))).upper()
    assert (mark in text) if mark else ("DRAFT" not in text and "CANCELLED" not in text)


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_a_long_invoice_has_its_head_and_number_on_each_page(paper: Any) -> None:
    lines = [line(f"Service {n} with quite a long name, so that it needs more than one line of its column on paper", f"{n}.25") for n in range(60)]
    pdf = read(pdf_of("invoice", record(invoice(*lines)), paper=paper))
    assert len(pdf.pages) > 1
    for n, page in enumerate(pdf.pages, 1):
        text = page.extract_text()
        assert f"Page {n} of {len(pdf.pages)}" in text
        assert "Service Date Qty Net Tax Amount EUR" in text
        assert "INV-2026-000012" in text
    assert [round(float(side)) for side in pdf.pages[0].mediabox[2:]] == ([595, 842] if paper == "a4" else [612, 792])


@pytest.mark.parametrize("language", ["en", "de"])
def test_programs_that_read_aloud_find_title_language_and_structure(language: str) -> None:
    pdf = read(pdf_of("invoice", record(invoice(line("Consultation", "40.00"))), language))
    root: Any = pdf.trailer["/Root"]
    assert root["/Lang"] == language
    assert str(root["/MarkInfo"]["/Marked"]) == "True"
    assert pdf.metadata is not None
    assert pdf.metadata.title == f"{'Rechnung' if language == 'de' else 'Invoice'} INV-2026-000012, Ana Rivera"
    kinds = set()

    def walk(node: Any) -> None:
        found = node.get_object() if hasattr(node, "get_object") else node
        for each in found if isinstance(found, list) else [found]:
            inner = each.get_object() if hasattr(each, "get_object") else each
            if isinstance(inner, dict):
                kinds.add(inner.get("/S"))
                if "/K" in inner:
                    walk(inner["/K"])

    walk(root["/StructTreeRoot"])
    assert {"/H1", "/Table", "/TH", "/TD"} <= kinds
    assert b"pdfuaid" in root["/Metadata"].get_data()


def test_all_fonts_are_inside() -> None:
    resources: list[Any] = [page["/Resources"] for page in read(pdf_of("prescription", record(MILD))).pages]
    fonts = [font.get_object() for each in resources for font in each["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert {"/FontFile2", "/FontFile3"} & set(descriptor)


def test_the_same_sheet_gives_the_same_bytes() -> None:
    digests = {hashlib.sha256(pdf_of("prescription", record(MILD), link="https://x.example/paper/1")).hexdigest() for _ in range(3)}
    assert len(digests) == 1


def test_a_prescription_says_who_what_and_how() -> None:
    dosage = {
        "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "capsule"}}],
        "timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d", "boundsDuration": {"value": 7, "code": "d"}}},
        "route": {"text": "oral"},
    }
    first = MILD | {"dosageInstruction": [dosage], "dispenseRequest": {"quantity": {"value": 21, "unit": "capsules"}}}
    second = MILD | {"id": "n", "medicationCodeableConcept": {"text": "Paracetamol"}, "dosageInstruction": [{"text": "Four times a day"}]}
    made = record(first, slip=[first, second])
    text = text_of(pdf_of("prescription", made))
    for words in ("Amoxicillin 500 mg", "1 capsule, 3 × a day, oral, 7 days", "21 capsules", "Paracetamol", "Four times a day"):
        assert words in text, words
    for words in ("Dr. Lindqvist", "General practitioner", "Licence no. LIC-77123", "Apr 12, 1968 (58 years)", "female"):
        assert words in text, words
    assert "3 × täglich, oral, 7 Tage" in text_of(pdf_of("prescription", made, "de"))


def test_a_prescription_that_was_stopped_is_not_valid() -> None:
    assert "NOT VALID: STOPPED" in text_of(pdf_of("prescription", record(MILD | {"status": "stopped"}))).upper()


def test_a_report_has_values_flags_ranges_and_earlier_values() -> None:
    now = observation("Potassium", "6.10", "2026-11-29T08:00:00+01:00", interpretation=[{"coding": [{"code": "HH"}]}])
    other = observation("Glucose", "140", "2026-11-29T08:00:00+01:00", "70", "99")
    earlier = [observation("Potassium", "4.2", "2026-03-01"), observation("Potassium", "3.9", "2025-12-24")]
    pdf = pdf_of("report", record(report(now, other), now, other, earlier=earlier))
    text = text_of(pdf)
    for words in ("Blood tests", "6.10", "mmol/L", "critically high", "3.5 – 5.1", "140", "Earlier values", "Mar 1, 2026 4.2", "Dec 24, 2025 3.9"):
        assert words in text, words
    assert text.count("Glucose") == 1
    assert "6,10" in text_of(pdf_of("report", record(report(now, other), now, other, earlier=earlier), "de"))


@pytest.mark.parametrize(
    ("status", "words"), [("corrected", "Amended report"), ("preliminary", "Preliminary"), ("entered-in-error", "Withdrawn"), ("final", None)]
)
def test_a_report_that_is_not_simply_final_has_a_banner(status: str, words: str | None) -> None:
    text = text_of(pdf_of("report", record(report(status=status))))
    assert (words in text) if words else not any(each in text for each in ("Amended", "Preliminary", "Withdrawn"))


@pytest.mark.parametrize(
    "odd",
    [
        {"valueQuantity": {"value": Decimal("1e30"), "unit": "x"}},
        {"valueQuantity": {"value": 5, "comparator": "<", "unit": "mmol/L"}},
        {"valueQuantity": {"unit": "mmol/L"}},
        {"referenceRange": [{"low": {"value": 7}, "high": {"value": 3}}]},
        {"referenceRange": [{"high": {"value": -3}}]},
        {"referenceRange": [{"text": "not found"}]},
        {"effectiveDateTime": "2026"},
        {"effectiveDateTime": "9999-12-31T23:59:59Z"},
        {"valueQuantity": None, "valueBoolean": True},
        {"valueQuantity": None, "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}},
        {"valueQuantity": None, "dataAbsentReason": {"text": "clotted"}},
        {"interpretation": [{"text": "odd"}]},
    ],
)
def test_odd_results_are_printed_too(odd: Json) -> None:
    strange = {name: value for name, value in (observation("Potassium", "5", "2026-11-29") | odd).items() if value is not None}
    earlier = [observation("Potassium", "4.2", "2025"), observation("Potassium", "4.2", "2020-01-01")]
    assert "Potassium" in text_of(pdf_of("report", record(report(strange), strange, earlier=earlier)))


@pytest.mark.parametrize("kind", ["invoice", "receipt", "prescription", "report", "summary", "token", "card"])
def test_a_paper_of_next_to_nothing_is_printed(kind: str) -> None:
    assert pdf_of(kind, record({"resourceType": "Basic", "id": "x"}, clinic={})).startswith(b"%PDF")


def test_a_copy_says_so() -> None:
    assert "COPY" in text_of(pdf_of("invoice", record(invoice()), copy=True)).upper()
    assert "COPY" not in text_of(pdf_of("invoice", record(invoice()))).upper()


def test_a_book_is_refused() -> None:
    with pytest.raises(Outcome) as refused:
        pdf_of("invoice", record(invoice(*[line("x", "1.00")] * 2_001)))
    assert refused.value.category == "too-costly"


def test_each_language_has_all_words_with_the_same_places() -> None:
    words = languages()
    for key, text in words["en"].items():
        for code, others in words.items():
            assert others[key].strip(), (code, key)
            assert others[key].count("%s") == text.count("%s"), (code, key)
