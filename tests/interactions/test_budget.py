"""One budget for each request: what a resource, a Bundle's entries together, or the paths of a patch may cost."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.validation import faults
from tests.interactions.conftest import Fhir, patient

TOO_COSTLY = (422, "too-costly")


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "MAX_STEPS", 10_000)


def questions(count: int) -> dict[str, Any]:
    return {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": str(n), "type": "string"} for n in range(count)]}


def entries(kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
    listed = [{"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}} for resource in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": listed}


def test_a_resource_that_costs_too_much_is_refused_with_the_rule_and_the_place(fhir: Fhir) -> None:
    assert fhir("POST", "Questionnaire", questions(100)).status_code == 201
    answer = fhir("POST", "Questionnaire", questions(1_000))
    (issue,) = answer.get_json()["issue"]
    assert (answer.status_code, issue["code"]) == TOO_COSTLY
    assert issue["diagnostics"].startswith("que-1 cannot be decided")
    assert issue["expression"][0].startswith("Questionnaire.item[")


def test_entries_of_a_batch_share_the_budget(fhir: Fhir) -> None:
    answer = fhir("POST", "", entries("batch", *[questions(600)] * 3)).get_json()
    responses = [entry["response"] for entry in answer["entry"]]
    assert [response["status"][:3] for response in responses] == ["201", "422", "422"]
    assert {response["outcome"]["issue"][0]["code"] for response in responses[1:]} == {"too-costly"}


def test_entries_of_a_transaction_share_the_budget(fhir: Fhir) -> None:
    answer = fhir("POST", "", entries("transaction", *[questions(600)] * 3))
    issue = answer.get_json()["issue"][0]
    assert (answer.status_code, issue["code"]) == TOO_COSTLY
    assert issue["expression"][0].startswith("Bundle.entry[1].resource.item[")


def test_validation_says_so_without_refusing(fhir: Fhir) -> None:
    answer = fhir("POST", "Questionnaire/$validate", questions(1_000))
    assert answer.status_code == 200
    assert "too-costly" in {issue["code"] for issue in answer.get_json()["issue"]}


def test_paths_of_a_patch_are_followed_within_the_budget(fhir: Fhir) -> None:
    created = fhir("POST", "Patient", patient(name=[{"given": ["x"] * 2_000}])).get_json()
    part = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "descendants().where($this = 'y')"}]
    body = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}] * 3}
    answer = fhir("PATCH", f"Patient/{created['id']}", body)
    issue = answer.get_json()["issue"][0]
    assert (answer.status_code, issue["code"]) == TOO_COSTLY
    assert "descendants()" in issue["diagnostics"]
    assert fhir("GET", f"Patient/{created['id']}").get_json()["meta"]["versionId"] == "1"
