"""What vaccinations become, those that were refused and taken back included."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.hl7v2.mapping import Converted, Converter
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .samples import convert, of_type, only, target

Json = dict[str, Any]


def vxu(converter: Converter, *segments: str) -> Converted:
    """What such a message becomes; its resources are valid."""
    converted = convert(converter, "VXU^V04^VXU_V04", *segments)
    validator = Validator(r4())
    for made in converted.made:
        validator.require(made.resource)
    return converted


def rxa(**fields: str) -> str:
    """RXA of a vaccine given, with some fields changed, `f20` for RXA-20."""
    given = {1: "0", 2: "1", 3: "20260102", 5: "140^Influenza^CVX", 6: "0.5", 7: "mL^mL^UCUM"} | {
        int(name[1:]): value for name, value in fields.items()
    }
    return "|".join(["RXA", *(given.get(number, "") for number in range(1, max(given) + 1))])


@pytest.mark.parametrize(
    ("completion", "action", "status"),
    [
        ("CP", "A", "completed"),
        ("PA", "A", "completed"),
        ("RE", "A", "not-done"),
        ("NA", "A", "not-done"),
        ("", "", "completed"),
        ("CP", "U", "completed"),
        ("CP", "D", "entered-in-error"),
        ("RE", "D", "entered-in-error"),
    ],
)
def test_the_status(converter: Converter, completion: str, action: str, status: str) -> None:
    made = only(vxu(converter, "ORC|RE|P1|F1", rxa(f20=completion, f21=action)), "Immunization")
    assert made["status"] == status
    assert ("statusReason" in made) is (completion == "RE" and action != "D")


def test_a_refusal_keeps_its_reason(converter: Converter) -> None:
    made = only(
        vxu(converter, "ORC|RE||F1", rxa(f5="998^No vaccine^CVX", f6="999", f7="", f18="00^Parental decision^NIP002", f20="RE")), "Immunization"
    )
    assert (made["status"], made["statusReason"]["text"]) == ("not-done", "Parental decision")
    assert "doseQuantity" not in made


def test_all_of_a_vaccination(converter: Converter) -> None:
    converted = vxu(
        converter,
        "ORC|RE|P1^X|F1^X|||||||||D9^Orders^Ann",
        rxa(
            f9="00^New^NIP001",
            f10="D8^Gives^Bo",
            f11="^^^Clinic 1",
            f15="LOT7",
            f16="20270101",
            f17="PMC^Sanofi^MVX",
            f19="R1^Travel^L",
            f21="A",
            f22="202601021015",
        ),
        "RXR|IM^Intramuscular^HL70162|LD^Left deltoid^HL70163",
    )
    made = only(converted, "Immunization")
    assert [(each["type"]["coding"][0]["code"], each["value"]) for each in made["identifier"]] == [("PLAC", "P1"), ("FILL", "F1")]
    assert [(each["function"]["coding"][0]["code"], target(converted, each["actor"])["name"][0]["family"]) for each in made["performer"]] == [
        ("OP", "Orders"),
        ("AP", "Gives"),
    ]
    assert (made["doseQuantity"]["value"].text, made["doseQuantity"]["code"], made["lotNumber"], made["expirationDate"]) == (
        "0.5",
        "mL",
        "LOT7",
        "2027-01-01",
    )
    assert (target(converted, made["manufacturer"])["name"], target(converted, made["location"])["name"]) == ("Sanofi", "Clinic 1")
    assert (made["route"]["coding"][0]["code"], made["site"]["coding"][0]["code"], made["primarySource"]) == ("IM", "LD", True)
    assert (made["recorded"], made["reasonCode"][0]["text"]) == ("2026-01-02T10:15:00+01:00", "Travel")


def test_what_others_gave_says_who_told_of_it(converter: Converter) -> None:
    made = only(vxu(converter, rxa(f3="", f6="999", f9="01^Historical^NIP001")), "Immunization")
    assert (made["primarySource"], made["reportOrigin"]["text"], made["occurrenceString"]) == (False, "Historical", "unknown")


def test_observations_of_the_vaccination_are_of_it(converter: Converter) -> None:
    converted = vxu(
        converter,
        "ORC|RE||F1",
        rxa(),
        "OBX|1|CE|64994-7^Eligibility^LN|1|V02^Medicaid^HL70064||||||F",
        "OBX|2|CE|30963-3^Funding^LN|1|PHC70^Private^CDCPHINVS||||||F",
        "OBX|3|CE|30956-7^Type^LN|2|88^Influenza VIS^CVX||||||F",
        "OBX|4|TS|29768-9^Published^LN|2|20250801||||||F",
        "OBX|5|TS|29769-7^Presented^LN|2|20260102||||||F",
        "OBX|6|TS|29769-7^Presented^LN|3|20260103||||||F",
        "OBX|7|NM|30973-2^Dose^LN|4|2||||||F",
        "NTE|1||well taken",
        "OBX|8|CE|31044-1^Reaction^LN|5|VXC12^Fever^CDCPHINVS||||||F",
        "NTE|1||for a day",
    )
    made, reaction = only(converted, "Immunization"), only(converted, "Observation")
    assert (made["programEligibility"][0]["coding"][0]["code"], made["fundingSource"]["coding"][0]["code"]) == ("V02", "PHC70")
    assert made["education"] == [
        {"documentType": "Influenza VIS", "publicationDate": "2025-08-01", "presentationDate": "2026-01-02"},
        {"presentationDate": "2026-01-03", "documentType": "Vaccine Information Statement"},
    ]
    assert made["protocolApplied"] == [{"doseNumberPositiveInt": 2}]
    assert made["note"] == [{"text": "well taken"}]
    assert (target(converted, reaction["partOf"][0]), reaction["note"]) == (made, [{"text": "for a day"}])


def test_each_order_is_a_vaccination_with_or_without_orc(converter: Converter) -> None:
    converted = vxu(converter, "ORC|RE||F1", rxa(), "RXR|IM", "ORC|RE||F2", rxa(f5="03^MMR^CVX"), "OBX|1|NM|30973-2^Dose^LN|1|1||||||F")
    first, second = of_type(converted, "Immunization")
    assert ("route" in first, "route" in second, "protocolApplied" in first, "protocolApplied" in second) == (True, False, False, True)
    old = vxu(converter, rxa(), "RXR|IM", rxa(f5="03^MMR^CVX"), rxa(f5="05^Measles^CVX"), "RXR|SC")
    assert [(each["vaccineCode"]["coding"][0]["code"], "route" in each) for each in of_type(old, "Immunization")] == [
        ("140", True),
        ("03", False),
        ("05", True),
    ]


def test_what_is_observed_of_the_person_is_of_no_vaccination(converter: Converter) -> None:
    converted = vxu(converter, "OBX|1|CE|59784-9^Immune^LN|1|38907003^Varicella^SCT||||||F", "NTE|1||had it", "ORC|RE||F1", rxa())
    made = only(converted, "Observation")
    assert "partOf" not in made
    assert made["note"] == [{"text": "had it"}]
