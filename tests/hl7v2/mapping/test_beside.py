"""What orders and results tell beside the order and the result: allergies, kin, insurance, who pays, containers, and who took part."""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.mapping import Converter
from fhir_server.hl7v2.text.message import read
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .samples import ZONE, convert, message, of_type, only, target

ORDERS = [("ORM^O01^ORM_O01", "2.5.1"), ("ORM^O01", "2.3"), ("OML^O21^OML_O21", "2.5.1"), ("OML^O21^OML_O21", "2.8")]
AL1 = "AL1|1|DA|PEN^Penicillin^L|SV|Rash"
NK1 = "NK1|1|Doe^Jim|FTH|1 Street^^Town|5551234"
IN1 = "IN1|1|PLAN1^Gold^L|INS1|The Insurer|||||||||||||||||||||||||||||||||POL1"
GT1 = "GT1|1|G1^^^HOSP|Doe^Jim||1 Street^^Town|5551234||19500101|M||FTH"


@pytest.mark.parametrize(("event", "version"), ORDERS)
def test_an_order_tells_of_allergies_kin_insurance_and_who_pays(converter: Converter, event: str, version: str) -> None:
    found = convert(converter, event, NK1, IN1, GT1, AL1, "ORC|NW|P1^OE", "OBR|1|P1^OE||GLU^Glucose^L", version=version)
    assert found.unhandled == []
    patient = next(made.urn for made in found.made if made.type == "Patient")
    allergy, coverage = only(found, "AllergyIntolerance"), only(found, "Coverage")
    assert (allergy["code"]["text"], allergy["patient"]) == ("Penicillin", {"reference": patient})
    assert (coverage["beneficiary"], target(found, coverage["payor"][0])["name"]) == ({"reference": patient}, "The Insurer")
    kin, guarantor = of_type(found, "RelatedPerson")
    assert kin["name"] == [{"family": "Doe", "given": ["Jim"]}]
    assert [coding["code"] for concept in guarantor["relationship"] for coding in concept["coding"]] == ["FTH", "GUAR"]
    assert (guarantor["birthDate"], guarantor["patient"]) == ("1950-01-01", {"reference": patient})
    for made in found.made:
        Validator(r4()).require(made.resource)


@pytest.mark.parametrize("event", ["ORU^R01^ORU_R01", "OUL^R22^OUL_R22"])
def test_a_result_tells_of_kin_and_who_took_part(converter: Converter, event: str) -> None:
    specimen = ["SPM|1|S1||BLD"] if event.startswith("OUL") else []
    parts = ("PRT||UC||PI|5^House^Greg", "PRT||UC||RO|6^Cuddy^Lisa", "PRT||UC||RCT|7^Wilson^James")
    found = convert(
        converter,
        event,
        NK1,
        *specimen,
        "OBR|1||F1|GLU^Glucose^L",
        *parts,
        "OBX|1|NM|1^G^LN||90|||||||F",
        "PRT||UC||TN|8^Foreman^Eric",
        version="2.8",
    )
    report, result = only(found, "DiagnosticReport"), only(found, "Observation")
    assert [each["display"] for each in report["resultsInterpreter"]] == ["Greg House"]
    assert [each["display"] for each in report["performer"]] == ["Lisa Cuddy"]
    assert [each["display"] for each in result["performer"]] == ["Eric Foreman"]
    assert [segment.name for segment in found.unhandled] == ["PRT"], "who gets a copy has not taken part"
    assert only(found, "RelatedPerson")["relationship"][0]["coding"][0]["code"] == "FTH"


def test_an_order_tells_who_has_placed_it_by_a_participation(converter: Converter) -> None:
    found = convert(converter, "OML^O21^OML_O21", "ORC|NW|P1^OE", "PRT||UC||OP|5^House^Greg", "OBR|1|P1^OE||GLU^Glucose^L", version="2.8")
    assert only(found, "ServiceRequest")["requester"]["display"] == "Greg House"


@pytest.mark.parametrize("event", ["OML^O21^OML_O21", "OUL^R22^OUL_R22"])
def test_a_specimen_is_in_its_containers(converter: Converter, event: str) -> None:
    sac = "SAC|||TUBE1^LIS||||||||||||||||||10|4||mL^mL^UCUM|||EDTA^EDTA^L"
    order = ("ORC|NW|P1^OE", "OBR|1|P1^OE||GLU^Glucose^L")
    segments = (*order, "SPM|1|S1||BLD", sac) if event.startswith("OML") else ("SPM|1|S1||BLD", sac, *order)
    specimen = only(convert(converter, event, *segments), "Specimen")
    (container,) = specimen["container"]
    assert container["identifier"][0]["value"] == "TUBE1"
    assert (str(container["capacity"]["value"]), container["capacity"]["code"], str(container["specimenQuantity"]["value"])) == ("10", "mL", "4")
    assert container["additiveCodeableConcept"]["text"] == "EDTA"


@pytest.mark.parametrize(("relation", "expected"), [("FTH", "RelatedPerson"), ("SEL", "Patient")])
def test_who_pays_is_the_guarantor_of_the_account(converter: Converter, relation: str, expected: str) -> None:
    patient = "PID|1||7^^^HOSP^MR||Doe^Jane|||||||||||||A1^^^HOSP"
    charge = message("DFT^P03^DFT_P03", "FT1|1|T1||20260102||CG|99213^Visit^CPT", GT1.replace("FTH", relation), patient=patient)
    found = converter.convert(read(charge), ZONE)
    (account,) = of_type(found, "Account")
    (guarantor,) = account["guarantor"]
    assert target(found, guarantor["party"])["resourceType"] == expected
