"""Records as they are gathered for papers, without a database: a clinic, a patient, a doctor."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pypdf import PdfReader

from fhir_server.papers import KINDS, Look, Record, Wording, press

Json = dict[str, Any]
CANON = "https://clinic-fhir.example.org"
AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
CLINIC = {
    "resourceType": "Organization",
    "name": "Hillside Practice",
    "address": [{"line": ["4 Orchard Lane"], "city": "Millbrook", "postalCode": "10442"}],
    "identifier": [{"type": {"coding": [{"code": "TAX"}]}, "value": "DE 811 569 869"}],
}
PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"family": "Rivera", "given": ["Ana"]}],
    "birthDate": "1968-04-12",
    "gender": "female",
    "identifier": [{"value": "1001"}],
}
DOCTOR = {
    "resourceType": "Practitioner",
    "id": "d",
    "name": [{"family": "Lindqvist", "prefix": ["Dr."]}],
    "qualification": [{"code": {"text": "General practitioner"}, "identifier": [{"value": "LIC-77123"}]}],
}
SUBJECT = {"subject": {"reference": "Patient/p"}}


def record(main: Json, *others: Json, patient: Json = PATIENT, clinic: Json = CLINIC, **beside: list[Json]) -> Record:
    known = {f"{each['resourceType']}/{each['id']}": each for each in (patient, DOCTOR, *others)}
    return Record(main, known, beside, clinic)


def pdf_of(kind: str, made: Record, language: str = "en", **look: Any) -> bytes:
    sheet = KINDS[kind](made, Wording(language, ZoneInfo("Europe/Berlin")))
    return press(sheet, Look(AT, **look))


def read(pdf: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(pdf))


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in read(pdf).pages).replace("\xa0", " ").replace("\u202f", " ")


def money(value: str, currency: str = "EUR") -> Json:
    return {"value": Decimal(value), "currency": currency}


def line(text: str, amount: str, *parts: Json) -> Json:
    return {"chargeItemCodeableConcept": {"text": text}, "priceComponent": [{"type": "base", "amount": money(amount)}, *parts]}


def invoice(*lines: Json, **more: Any) -> Json:
    number = {"system": f"{CANON}/sid/invoice-number", "value": "INV-2026-000012"}
    front = {"resourceType": "Invoice", "id": "i", "status": "issued", "identifier": [number], "date": "2026-11-30", **SUBJECT}
    return front | {"lineItem": list(lines)} | more


def observation(name: str, value: str, at: str, low: str | None = "3.5", high: str | None = "5.1", **more: Any) -> Json:
    ends = {end: {"value": Decimal(text)} for end, text in (("low", low), ("high", high)) if text is not None}
    front = {"resourceType": "Observation", "id": f"{name}-{at}", "status": "final", "code": {"coding": [{"code": name}], "text": name}}
    measured = {"valueQuantity": {"value": Decimal(value), "unit": "mmol/L", "code": "mmol/L"}, "referenceRange": [ends]}
    return front | measured | {"effectiveDateTime": at} | more


def entry(kind: str, amount: str, at: str = "2026-11-30T10:00:00+01:00", currency: str = "EUR", **more: Any) -> Json:
    """An entry of a statement."""
    front = {"at": at, "invoice": "Invoice/i", "kind": kind, "amount": Decimal(amount), "currency": currency, "cause": None, "payment": {}}
    return front | more
