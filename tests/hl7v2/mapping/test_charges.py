"""What financial transactions become: charges alone, with what they are for."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.hl7v2.mapping import Converted, Converter
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .samples import convert, of_type, only, target

Json = dict[str, Any]


def dft(converter: Converter, *segments: str) -> Converted:
    """What such a message becomes; its resources are valid."""
    converted = convert(converter, "DFT^P03^DFT_P03", "PV1|1|O|||||||||||||||||V1^^^HOSP", *segments)
    validator = Validator(r4())
    for made in converted.made:
        validator.require(made.resource)
    return converted


def ft1(**fields: str) -> str:
    """FT1 of a charge, with some fields changed, `f11` for FT1-11."""
    given = {1: "1", 2: "T1", 4: "20260102", 6: "CG", 7: "71045^X-ray^C4", 10: "1"} | {int(name[1:]): value for name, value in fields.items()}
    return "|".join(["FT1", *(given.get(number, "") for number in range(1, max(given) + 1))])


@pytest.mark.parametrize(
    ("quantity", "total", "one", "price"),
    [
        ("2", "100&USD", "50&USD", {"value": "100", "currency": "USD"}),
        ("2", "", "50.25&EUR", {"value": "100.50", "currency": "EUR"}),
        ("", "", "50", {"value": "50"}),
        ("1", "12.50", "", {"value": "12.50"}),
        ("1", "", "", None),
        ("1", "free", "", None),
    ],
)
def test_prices(converter: Converter, quantity: str, total: str, one: str, price: Json | None) -> None:
    charge = only(dft(converter, ft1(f10=quantity, f11=total, f12=one)), "ChargeItem")
    found = charge.get("priceOverride")
    assert (found and {name: str(value) for name, value in found.items()}) == price


def test_a_charge_says_for_whom_what_when_and_why(converter: Converter) -> None:
    converted = dft(
        converter,
        ft1(
            f5="20260103",
            f13="RAD^Radiology^L",
            f19="R1^Pain^L~R2^Cough^L",
            f20="D1^Does^Ann",
            f21="D2^Orders^Bo",
            f24="D3^Enters^Cy",
            f29="0182^Aspirin^NDC",
        ),
        "NTE|1||at night",
        "PR1|1||71045^X-ray^C4||20260102",
        "DG1|1||R07^Chest pain^I10|||F",
    )
    charge = only(converted, "ChargeItem")
    assert (charge["status"], charge["identifier"][0]["value"], charge["occurrenceDateTime"], charge["enteredDate"]) == (
        "billable",
        "T1",
        "2026-01-02",
        "2026-01-03",
    )
    assert [each["text"] for each in charge["reason"]] == ["Pain", "Cough"]
    assert [target(converted, each["actor"])["name"][0]["family"] for each in charge["performer"]] == ["Does", "Orders"]
    assert target(converted, charge["enterer"])["name"][0]["family"] == "Enters"
    assert charge["productCodeableConcept"]["text"] == "Aspirin"
    assert target(converted, charge["context"])["resourceType"] == "Encounter"
    assert target(converted, charge["service"][0])["resourceType"] == "Procedure"
    assert charge["note"] == [{"text": "at night"}]
    assert target(converted, only(converted, "Encounter")["diagnosis"][0]["condition"])["code"]["text"] == "Chest pain"


def test_what_was_done_is_told_by_the_charge_where_nothing_else_tells_it(converter: Converter) -> None:
    converted = dft(
        converter, ft1(f25="99011^First visit^C4"), ft1(f2="T2", f7="", f25="99012^Second visit^C4"), ft1(f2="T3", f7="", f29="0182^Aspirin^NDC")
    )
    first, second, third = of_type(converted, "ChargeItem")
    procedure = only(converted, "Procedure")
    assert (procedure["code"]["text"], target(converted, first["service"][0])) == ("First visit", procedure)
    assert [each["code"]["text"] for each in (first, second, third)] == ["X-ray", "Second visit", "Aspirin"]


@pytest.mark.parametrize("kind", ["CD", "PY", "AJ", "CO", ""])
def test_only_charges_are_taken_and_the_rest_is_told(converter: Converter, kind: str) -> None:
    converted = dft(converter, ft1(f6=kind))
    assert of_type(converted, "ChargeItem") == []
    assert [(fault.segment, fault.severity) for fault in converted.faults] == [("FT1", "W")]
    assert [segment.name for segment in converted.unhandled] == ["FT1"]


def test_charges_without_a_number_are_told_by_their_message(converter: Converter) -> None:
    converted = dft(converter, ft1(), ft1(f2=""))
    assert [made.key[0] for made in converted.made if made.type == "ChargeItem"] == ["T1", "M1"]
