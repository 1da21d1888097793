"""The profiles that come along: R4's and the clinic's own."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.operations.conformance import FOLDER, definitions
from fhir_server.spec import profiles, r4, terminology
from fhir_server.terminology import Terminology
from fhir_server.validation.profiles import Profiles

Json = dict[str, Any]
OWN = {resource["url"]: body for resource, body in definitions() if resource["resourceType"] == "StructureDefinition"}
EXAMPLES = sorted(path.name for path in (FOLDER / "examples").glob("*.json"))
CORE = "http://hl7.org/fhir/StructureDefinition/"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def find(canonical: str) -> bytes | None:
    url = canonical.partition("|")[0]
    return OWN.get(url) or (bytes(profiles()[url]) if url in profiles() else None)


def faults(profile: str, resource: Json) -> list[tuple[str, str]]:
    """The places of errors and the beginnings of their texts."""
    checker = Profiles(r4(), find, Terminology(terminology(), lambda _kind, _canonical: None).member)
    issues = [issue for issue in checker.check(profile, resource) if issue.severity == "error"]
    return [(issue.expression[0], issue.diagnostics.removeprefix(f"{profile}: ").partition(" ")[0]) for issue in issues]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_clinic_meets_its_profile_and_not_without_what_that_needs(name: str) -> None:
    example = fhirjson.loads((FOLDER / "examples" / name).read_bytes())
    (profile,) = example["meta"]["profile"]
    assert profile in OWN
    assert faults(profile, example) == []
    elements = [each["path"].split(".")[1:] for each in fhirjson.loads(OWN[profile])["differential"]["element"] if each.get("min")]
    for element in [steps[0] for steps in elements if len(steps) == 1]:
        less = {key: value for key, value in example.items() if not key.startswith(element.removesuffix("[x]"))}
        assert faults(profile, less) != []


def vital(code: str, unit: str) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2026-01-01",
        "valueQuantity": {"value": 70, "unit": unit, "system": UCUM, "code": unit},
    }


@pytest.mark.parametrize(
    ("profile", "code", "unit"),
    [
        ("heartrate", "8867-4", "/min"),
        ("resprate", "9279-1", "/min"),
        ("bodytemp", "8310-5", "Cel"),
        ("bodyheight", "8302-2", "cm"),
        ("headcircum", "9843-4", "cm"),
        ("bodyweight", "29463-7", "kg"),
        ("bmi", "39156-5", "kg/m2"),
    ],
)
def test_vital_signs_meet_the_profiles_of_r4_and_others_do_not(profile: str, code: str, unit: str) -> None:
    url = f"{CORE}{profile}"
    assert faults(url, vital(code, unit)) == []
    assert [place for place, _ in faults(url, vital(code, "furlong"))] == ["Observation.value.code"]
    assert [place for place, _ in faults(url, vital("1-8", unit))] == ["Observation.code.coding"]
    assert faults(url, vital(code, unit) | {"category": [{"text": "x"}]}) == [("Observation.category", "Observation.category:VSCat")]
    assert "vs-2" in [key for _, key in faults(url, {k: v for k, v in vital(code, unit).items() if k != "valueQuantity"})]


def pressure(*codes: str) -> Json:
    value = {"value": 1, "unit": "mm[Hg]", "system": UCUM, "code": "mm[Hg]"}
    parts = [{"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": value} for code in codes]
    return {key: value for key, value in vital("85354-9", "").items() if key != "valueQuantity"} | {"component": parts}


def test_a_blood_pressure_has_both_its_parts() -> None:
    assert faults(f"{CORE}bp", pressure("8480-6", "8462-4")) == []
    assert faults(f"{CORE}bp", pressure("8480-6", "1-8")) == [("Observation.component", "Observation.component:DiastolicBP")]
    wrong = pressure("8480-6", "8462-4")
    wrong["component"][1]["valueQuantity"] = {"value": 1, "unit": "kPa", "system": UCUM, "code": "kPa"}
    places = {place for place, _ in faults(f"{CORE}bp", wrong)}
    assert "Observation.component[1].value.code" in places


def test_every_profile_that_ships_can_be_checked_by_and_holds_no_prose() -> None:
    assert len(profiles()) == 441
    for url, body in profiles().items():
        definition = fhirjson.loads(bytes(body))
        assert not {"text", "description", "purpose", "copyright"} & definition.keys()
        issues = Profiles(r4(), find, lambda _value_set, _system, _code: True).check(url, {"resourceType": "Basic"})
        assert [issue.code for issue in issues] == ["invalid"]
