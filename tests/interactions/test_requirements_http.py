"""What the specification demands of RESTful interactions and no other test shows by the way: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.interactions.conftest import BASE, Fhir, entry, identified, issues, made, patient, self_query, unique

XML = {"Content-Type": "application/fhir+xml"}


def test_addresses_are_case_sensitive_and_may_end_in_a_slash(fhir: Fhir) -> None:
    stem = unique("Ab")[:30]
    fhir.put(f"Patient/{stem}", patient(id=stem), 201)
    fhir.get(f"Patient/{stem.lower()}", 404)
    fhir.get(f"patient/{stem}", 404)
    assert fhir.ids(f"Patient?_id={stem}") == [stem]
    assert fhir.ids(f"Patient?_id={stem.lower()}") == []
    value = unique()
    assert fhir("POST", f"{BASE}/Patient/", identified(value)).status_code == 201
    assert len(fhir.ids(f"Patient/?identifier={value}")) == 1
    assert fhir("GET", f"{BASE}/Patient/{stem}/").status_code == 200
    assert fhir("DELETE", f"Patient/?identifier={value}").status_code == 204
    assert fhir.ids(f"Patient/?identifier={value}") == []


def test_addresses_are_read_as_utf_8(fhir: Fhir) -> None:
    name = f"Žluťoučký-{unique()}"
    identity = made(fhir, patient(name=[{"family": name}]))
    assert fhir.ids(f"Patient?family:exact={quote(name)}") == [identity]
    issues(fhir.get("Patient?family=%ff", 400))


@pytest.mark.parametrize("prefer", ["return=minimal", "return=representation", "return=OperationOutcome", "return=minimal, handling=lenient"])
def test_a_failure_is_explained_whatever_is_preferred(fhir: Fhir, prefer: str) -> None:
    identity = made(fhir, patient())
    for answer, status in (
        (fhir("POST", "Patient", patient(gender="foo"), {"Prefer": prefer}), 422),
        (fhir("PUT", f"Patient/{identity}", patient(id=identity), {"Prefer": prefer, "If-Match": 'W/"9"'}), 412),
        (fhir("PATCH", f"Patient/{identity}", [{"op": "remove", "path": "/gender"}], {"Prefer": prefer}), 422),
        (fhir("DELETE", "Patient", headers={"Prefer": prefer}), 400),
        (fhir("GET", "Patient/never-was", headers={"Prefer": prefer}), 404),
    ):
        assert answer.status_code == status
        issues(answer.get_json())


def test_format_is_of_the_answer_and_not_of_the_body(fhir: Fhir) -> None:
    answer = fhir("POST", "Patient?_format=xml", patient())
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+xml; charset=utf-8")
    answer = fhir("POST", "Patient?_format=json", '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>', XML)
    assert (answer.status_code, answer.get_json()["active"]) == (201, True)
    assert fhir("POST", "Patient?_format=json", "<Patient/>", {"Content-Type": "text/plain"}).status_code == 415
    refused = fhir("POST", "Patient?_format=xml", "<Patient/>")
    assert (refused.status_code, refused.data[:5]) == (400, b"<?xml")


def test_the_older_media_types_are_understood(fhir: Fhir) -> None:
    answer = fhir("POST", "Patient", patient(), {"Content-Type": "application/json+fhir", "Accept": "application/xml+fhir"})
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+xml; charset=utf-8")
    answer = fhir("POST", "Patient", answer.data, {"Content-Type": "application/xml+fhir", "Accept": "application/json+fhir"})
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+json; charset=utf-8")


def test_an_update_has_the_servers_version_and_time(fhir: Fhir) -> None:
    first = fhir.post("Patient", patient())
    claimed = {**first, "meta": {"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z"}}
    answer = fhir("PUT", f"Patient/{first['id']}", claimed)
    second = answer.get_json()
    assert (answer.status_code, answer.headers["ETag"], second["meta"]["versionId"]) == (200, 'W/"2"', "2")
    assert second["meta"]["lastUpdated"] >= first["meta"]["lastUpdated"]
    assert "Last-Modified" in answer.headers
    assert fhir.get(f"Patient/{first['id']}") == second


def test_a_patch_in_another_language_is_not_taken(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    issues(fhir("PATCH", f"Patient/{identity}", "<diff/>", {"Content-Type": "application/xml-patch+xml"}).get_json())
    assert fhir("PATCH", f"Patient/{identity}", "<diff/>", {"Content-Type": "application/xml-patch+xml"}).status_code == 415


def test_conditional_writes_are_plain_ones_in_the_history(fhir: Fhir) -> None:
    value = unique()
    address = f"Patient?identifier=urn:mrn|{value}"
    identity = fhir.put(address, identified(value), 201)["id"]
    fhir.put(address, identified(value, gender="male"))
    assert fhir("DELETE", address).status_code == 204
    told = [each["request"] for each in fhir.get(f"Patient/{identity}/_history")["entry"]]
    assert [each["method"] for each in told][:2] == ["DELETE", "PUT"]
    assert {each["url"] for each in told} <= {f"Patient/{identity}", "Patient"}


def test_the_mode_of_capabilities_is_let_pass(fhir: Fhir) -> None:
    for mode in ("full", "normative", "terminology"):
        assert fhir.get(f"metadata?mode={mode}")["resourceType"] == "CapabilityStatement"


def test_the_links_of_a_history_keep_its_count_and_times(fhir: Fhir) -> None:
    first = fhir.post("Patient", patient())
    path = f"Patient/{first['id']}"
    for _ in range(4):
        fhir.put(path, first)
    since = first["meta"]["lastUpdated"]
    pages = list(fhir.pages(f"{path}/_history?_count=2&_since={since}"))
    assert [len(page["entry"]) for page in pages] == [2, 2, 1]
    assert {tuple(self_query(page)["_count"]) for page in pages} == {("2",)}
    assert {tuple(self_query(page)["_since"]) for page in pages} == {(since,)}


def test_a_request_id_comes_back_end_to_end(fhir: Fhir) -> None:
    for path in ("metadata", "Patient?_count=1", "Patient/never-was", "Nonsense"):
        assert fhir("GET", path, headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
        assert fhir("GET", path).headers["X-Request-Id"]


def test_a_token_without_the_right_is_403_with_an_outcome(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    narrow = fhir.other(scope="system/Observation.rs")
    for answer in (
        narrow("GET", f"Patient/{identity}"),
        narrow("GET", "Patient?name=x"),
        narrow("POST", "Patient", patient()),
        narrow("PUT", f"Patient/{identity}", patient(id=identity)),
        narrow("DELETE", f"Patient/{identity}"),
        narrow("GET", f"Patient/{identity}/_history"),
    ):
        assert answer.status_code == 403
        issues(answer.get_json())


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_head_entry_answers_without_the_resource(fhir: Fhir, kind: str) -> None:
    path = f"Patient/{made(fhir, patient())}"
    bundle = fhir.bundle(kind, entry("HEAD", path), entry("GET", path), entry("HEAD", f"{path}/_history"))
    head, full, history = bundle["entry"]
    assert (head.keys(), head["response"]) == ({"response"}, full["response"])
    assert full["resource"]["resourceType"] == "Patient"
    assert (history.keys(), history["response"]["status"]) == ({"response"}, "200 OK")
