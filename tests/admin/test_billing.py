"""Bill templates that are tried out before they are in force."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Clinic

from .conftest import Desk, token_of

Json = dict[str, Any]
PATH = "/billing/templates/preview"


def template(*parts: Json, **fields: Any) -> Json:
    base = {"type": "base", "amount": {"value": 10.10, "currency": "EUR"}}
    groups = [{"priceComponent": [base, {"type": "tax", "factor": 0.2}]}, *parts]
    return {"resourceType": "ChargeItemDefinition", "url": "urn:t", "status": "draft", "propertyGroup": groups, **fields}


CHILD = {"applicability": [{"expression": "%patient.birthDate > @2015-01-01"}], "priceComponent": [{"type": "discount", "factor": 1}]}


@pytest.fixture
def desk(clinic: Clinic) -> Desk:
    return Desk(clinic, token_of(clinic.clock()))


def test_cases_say_what_they_come_to_and_whether_that_is_expected(desk: Desk) -> None:
    cases = [
        {"name": "adult", "patient": {"resourceType": "Patient", "birthDate": "1980-01-01"}, "quantity": "3", "expected": {"gross": "36.36"}},
        {"name": "child", "patient": {"resourceType": "Patient", "birthDate": "2020-01-01"}, "expected": {"gross": "0", "tax": "0.00"}},
        {"name": "dearer", "expected": {"net": "99"}},
        {"name": "nobody"},
    ]
    found = desk.ok("POST", PATH, {"template": template(CHILD), "cases": cases})
    assert [each["passed"] for each in found["items"]] == [True, True, False, None]
    assert found["passed"] is False
    adult = found["items"][0]
    assert (adult["net"], adult["tax"], adult["gross"], adult["currency"]) == ("30.30", "6.06", "36.36", "EUR")
    assert adult["lines"] == [{"type": "base", "amount": "30.30", "factor": None}, {"type": "tax", "amount": "6.06", "factor": "0.2"}]


def test_a_fault_is_told_with_its_place_and_one_that_does_not_apply_has_no_amounts(desk: Desk) -> None:
    faulty = {"priceComponent": [{"type": "discount", "factor": 1}], "applicability": [{"expression": "%nobody"}]}
    (found,) = desk.ok("POST", PATH, {"template": template(faulty), "cases": [{"expected": {}}]})["items"]
    assert "propertyGroup[1].applicability[0]" in found["fault"]
    assert (found["applies"], found["passed"]) == (False, False)
    (other,) = desk.ok("POST", PATH, {"template": template(applicability=[{"expression": "false"}]), "cases": [{}]})["items"]
    assert (other["applies"], other["fault"], other["gross"], other["lines"]) == (False, None, None, [])


@pytest.mark.parametrize(
    "body",
    [
        {"template": {"resourceType": "Patient"}, "cases": [{}]},
        {"template": template(surprise=1), "cases": [{}]},
        {"template": template(), "cases": []},
        {"template": template(), "cases": [{}] * 21},
        {"template": template(), "cases": [{"patient": {"resourceType": "Encounter"}}]},
        {"template": template(), "cases": [{"quantity": "many"}]},
    ],
)
def test_what_cannot_be_tried_out_is_refused(desk: Desk, body: Json) -> None:
    assert desk("POST", PATH, body).status_code == 422


def test_nothing_is_exact_by_chance(desk: Desk) -> None:
    made = template()
    made["propertyGroup"][0]["priceComponent"][0]["amount"]["value"] = 1.005
    (found,) = desk.ok("POST", PATH, {"template": made, "cases": [{}]})["items"]
    assert found["net"] == "1.01"
