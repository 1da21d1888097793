from __future__ import annotations

from typing import Any

import pytest

from fhir_server.spec import r4
from fhir_server.validation.profiles import check

Json = dict[str, Any]
URL = "https://ward.example/StructureDefinition/patient"


def profile(*elements: Json, **fields: Any) -> Json:
    root = {"id": "Patient", "path": "Patient", "min": 0, "max": "*"}
    return {"resourceType": "StructureDefinition", "url": URL, "type": "Patient", "snapshot": {"element": [root, *elements]}, **fields}


def element(path: str, least: int = 0, most: str = "*", **fields: Any) -> Json:
    return {"id": path, "path": path, "min": least, "max": most, "base": {"path": path, "min": 0, "max": "*"}, **fields}


def told(wanted: Json, **patient: Any) -> list[tuple[str, str, str]]:
    """Severity, code and place of each issue."""
    issues = check(wanted, {"resourceType": "Patient", **patient}, r4())
    return [(issue.severity, issue.code, "".join(issue.expression)) for issue in issues]


def test_what_is_needed_is_missed_where_its_parent_is_there() -> None:
    wanted = profile(element("Patient.name", 1), element("Patient.identifier.system", 1))
    assert told(wanted) == [("error", "required", "Patient.name")]
    assert told(wanted, name=[{}], identifier=[{"system": "a"}, {"value": "b"}]) == [("error", "required", "Patient.identifier[1].system")]
    assert told(wanted, name=[{}], identifier=[{"_system": {"extension": []}}]) == []


def test_what_may_not_be_there_or_not_so_often_is_too_many() -> None:
    wanted = profile(element("Patient.name", most="1"), element("Patient.deceased[x]", most="0"))
    assert told(wanted, name=[{}, {}]) == [("error", "structure", "Patient.name")]
    assert told(wanted, deceasedDateTime="2020") == [("error", "structure", "Patient.deceased")]
    assert told(wanted, name=[{}]) == []


def test_what_the_specification_asks_for_is_not_told_again() -> None:
    assert told(profile(element("Patient.name", 1, base={"path": "Patient.name", "min": 1, "max": "*"}))) == []


@pytest.mark.parametrize(
    ("asked", "value", "fits"),
    [
        ({"fixedCode": "male"}, "male", True),
        ({"fixedCode": "male"}, "female", False),
    ],
)
def test_a_fixed_value_is_that_value(asked: Json, value: str, fits: bool) -> None:  # noqa: FBT001 - a table of expectations
    assert (told(profile(element("Patient.gender", **asked)), gender=value) == []) == fits


def test_a_pattern_is_there_among_other_things() -> None:
    pattern = {"coding": [{"system": "urn:s", "code": "M"}]}
    wanted = profile(element("Patient.maritalStatus", patternCodeableConcept=pattern))
    more = {"text": "married", "coding": [{"code": "x"}, {"system": "urn:s", "code": "M", "display": "Married"}]}
    assert told(wanted, maritalStatus=more) == []
    assert told(wanted, maritalStatus={"coding": [{"system": "urn:s", "code": "S"}]}) == [("error", "value", "Patient.maritalStatus")]
    assert told(wanted) == []


def test_its_own_invariants_are_asked_and_a_warning_is_one() -> None:
    rules = [
        {"key": "w-1", "severity": "error", "human": "A name has a family", "expression": "family.exists()", "source": URL},
        {"key": "w-2", "severity": "warning", "human": "Has a given", "expression": "given.exists()", "source": URL},
        {"key": "ele-1", "severity": "error", "expression": "false", "source": "http://hl7.org/fhir/StructureDefinition/Element"},
        {"key": "w-3", "severity": "error", "expression": "no such thing (", "source": URL},
    ]
    found = told(profile(element("Patient.name", type=[{"code": "HumanName"}], constraint=rules)), name=[{"family": "a"}, {"given": ["b"]}])
    assert found == [
        ("warning", "invariant", "Patient.name[0]"),
        ("information", "informational", "Patient.name[0]"),
        ("error", "invariant", "Patient.name[1]"),
        ("information", "informational", "Patient.name[1]"),
    ]


def test_slices_are_told_not_to_be_checked() -> None:
    sliced = element("Patient.identifier", 1, id="Patient.identifier:mrn", sliceName="mrn")
    assert told(profile(sliced)) == [("information", "informational", "")]


@pytest.mark.parametrize("odd", [profile(type="Observation"), profile(snapshot={})])
def test_a_profile_that_does_not_apply_is_an_error(odd: Json) -> None:
    assert [severity for severity, _, _ in told(odd)] == ["error"]


def test_no_more_faults_are_told_than_somebody_reads() -> None:
    assert len(told(profile(element("Patient.name.family", 1)), name=[{"text": "x"}] * 5_000)) == 200
