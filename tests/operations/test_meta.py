from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, issues, made, patient

TAG = {"system": "urn:tags", "code": "a"}


def given(**fields: Any) -> Json:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": fields}]}


def shown(answer: Json) -> Json:
    (part,) = answer["parameter"]
    assert part["name"] == "return"
    value: Json = part["valueMeta"]
    return value


def test_labels_are_added_shown_and_taken_away(fhir: Fhir) -> None:
    at = f"Patient/{made(fhir, patient(meta={'tag': [{'system': 'urn:tags', 'code': 'old'}]}))}"
    added = shown(fhir.post(f"{at}/$meta-add", given(tag=[TAG], profile=["urn:p"], security=[{"system": "urn:s", "code": "x"}]), 200))
    assert added["tag"] == [{"system": "urn:tags", "code": "old"}, TAG]
    assert (added["profile"], added["security"], added["versionId"]) == (["urn:p"], [{"system": "urn:s", "code": "x"}], "2")
    assert shown(fhir.get(f"{at}/$meta")) == added == fhir.get(at)["meta"]
    taken = shown(fhir.post(f"{at}/$meta-delete", given(tag=[{**TAG, "display": "whatever"}], profile=["urn:p"]), 200))
    assert (taken["tag"], "profile" in taken, taken["versionId"]) == ([{"system": "urn:tags", "code": "old"}], False, "3")
    assert fhir.get(at)["name"] == patient()["name"]


def test_what_changes_nothing_makes_no_version(fhir: Fhir) -> None:
    at = f"Patient/{made(fhir, patient(meta={'tag': [TAG]}))}"
    assert shown(fhir.post(f"{at}/$meta-add", given(tag=[TAG]), 200))["versionId"] == "1"
    assert shown(fhir.post(f"{at}/$meta-delete", given(tag=[{"code": "none"}]), 200))["versionId"] == "1"


def test_a_version_that_must_be_current_is_heeded(fhir: Fhir) -> None:
    at = f"Patient/{made(fhir, patient())}"
    assert fhir("POST", f"{at}/$meta-add", given(tag=[TAG]), {"If-Match": 'W/"7"'}).status_code == 412
    assert fhir("POST", f"{at}/$meta-add", given(tag=[TAG]), {"If-Match": 'W/"1"'}).status_code == 200


def test_several_at_once_lose_nothing(fhir: Fhir) -> None:
    at = f"Patient/{made(fhir, patient())}"
    codes = ["a", "b", "c", "d"]
    threads = [threading.Thread(target=fhir, args=("POST", f"{at}/$meta-add", given(tag=[{"code": code}]))) for code in codes]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(tag["code"] for tag in fhir.get(at)["meta"]["tag"]) == codes


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "Patient/none/$meta", None, 404),
        ("POST", "Patient/none/$meta-add", given(tag=[TAG]), 404),
        ("POST", "Patient/{id}/$meta-add", {"resourceType": "Parameters"}, 400),
        ("POST", "Patient/{id}/$meta-add", given(tag="a"), 422),
        ("GET", "Patient/{id}/$meta-add", None, 405),
        ("GET", "Patient/$meta", None, 404),
    ],
)
def test_what_cannot_be_done_is_refused(fhir: Fhir, method: str, path: str, body: Json | None, status: int) -> None:
    answer = fhir(method, path.format(id=made(fhir, patient())), body)
    assert answer.status_code == status
    issues(json.loads(answer.data))


def test_who_may_not_write_labels_nothing(fhir: Fhir) -> None:
    at = f"Patient/{made(fhir, patient())}"
    reader = fhir.other(scope="system/Patient.rs")
    assert reader("GET", f"{at}/$meta").status_code == 200
    assert reader("POST", f"{at}/$meta-add", given(tag=[TAG])).status_code == 403
